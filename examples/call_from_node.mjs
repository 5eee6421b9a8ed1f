// Call capsule-run from Node.js: a request as JSON on stdin, a response as JSON on stdout.
//
//     node examples/call_from_node.mjs
//
// capsule-run must be on PATH, or CAPSULE_RUN must name it. No package is needed.

import { spawn } from "node:child_process";

const PROGRAM = process.env.CAPSULE_RUN ?? "capsule-run";

/** Run a request and return the response. Rejects only if capsule-run itself cannot be started or says no JSON. */
export function run(request, { signal } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM, ["--json"], { signal, stdio: ["pipe", "pipe", "inherit"] });
    const pieces = [];
    child.on("error", reject);
    child.stdout.on("data", (piece) => pieces.push(piece));
    child.on("close", () => {
      try {
        resolve(JSON.parse(Buffer.concat(pieces).toString()));
      } catch (error) {
        reject(error);
      }
    });
    child.stdin.on("error", () => {}); // the exit code and the response say more
    child.stdin.end(JSON.stringify(request));
  });
}

const limits = { timeout_ms: 10_000, resources: { memory_bytes: 256 << 20 } };
const good = await run({ command: ["python3", "-c", "print(6 * 7)"], ...limits });
console.log(good.status, good.stdout.trim());
const slow = await run({ command: ["sleep", "60"], ...limits, timeout_ms: 300 });
console.log(slow.status, slow.error.code);
const wrong = await run({ command: "no list" });
console.log(wrong.status, wrong.error.code);
