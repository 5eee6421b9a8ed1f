// Run cells of JavaScript, one after the other, with the names of all cells before. Runs inside the sandbox, started by relay.py.
//
// V8 evaluates a cell as its own console does ("REPL mode"): `const` and `let` can be declared again, and `await` stands at the
// top. Requests come on descriptor 3, messages go on 4, in the form of python_driver.py. The host trusts nothing that comes from
// here: the code can do to this program whatever it wants, since both are one process.
"use strict";
{
  const fs = require("fs");
  const inspector = require("inspector");
  const net = require("net");
  const util = require("util");
  const vm = require("vm");

  const READY = 1, RESULT = 2, DONE = 3;
  const LARGEST_TEXT = 1 << 20, LARGEST_ERROR = 1 << 16, LARGEST_REPRESENTATION = 8 << 20, LARGEST_BUNDLE = 16 << 20;
  const SHOW = Symbol.for("Jupyter.display"); // the method that notebooks of JavaScript know
  const START = Symbol.for("capsule-run.cell");
  const IMPORT_HINT = 'a cell is no module: use `require`, as in `const fs = require("fs")`';
  const start = new vm.Script(`globalThis[Symbol.for("capsule-run.cell")]()`);

  const session = new inspector.Session();
  session.connect();
  let taken;
  let hook;
  session.post("Runtime.evaluate", { expression: "({})" }, (_, answer) => { hook = answer.result.objectId; });
  session.post("Runtime.callFunctionOn", { objectId: hook, functionDeclaration: "function () { globalThis[Symbol.for('capsule-run.cell')] = this; }" });
  globalThis[START].take = (value) => { taken = value; };
  delete globalThis[START];

  let running = null; // the number of the cell, and what ends it

  class ProcessExit extends Error {
    constructor(code) {
      super(String(code ?? process.exitCode ?? 0));
      this.name = "ProcessExit";
    }
  }

  function packed(text) {
    const bytes = Buffer.from(text);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  }

  function send(kind, fields) {
    const texts = Object.entries(fields).flatMap(([name, value]) => [...packed(name), ...packed(value)]);
    const payload = Buffer.concat([Buffer.from([kind]), ...texts]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(payload.length);
    let data = Buffer.concat([length, payload]);
    while (data.length) data = data.subarray(fs.writeSync(4, data));
  }

  // The value that a reply of V8 stands for.
  function valueOf(remote) {
    const { objectId, unserializableValue, value } = remote;
    const argument = objectId ? { objectId } : unserializableValue ? { unserializableValue } : { value };
    taken = undefined;
    session.post("Runtime.callFunctionOn", { objectId: hook, functionDeclaration: "function (value) { this.take(value); }", arguments: [argument] });
    const value_ = taken;
    taken = undefined;
    return value_;
  }

  function asText(kind, value) {
    if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
    if (typeof value !== "string") return JSON.stringify(value) ?? String(value);
    if (kind === "text/plain" && value.length > LARGEST_TEXT) {
      return `${value.slice(0, LARGEST_TEXT)}… ${value.length - LARGEST_TEXT} more characters`;
    }
    return value;
  }

  function showBundle(bundle, main) {
    const fields = { main: main ? "1" : "0" };
    let total = 0;
    for (const [kind, value] of Object.entries(bundle)) {
      const text = asText(kind, value);
      const size = Buffer.byteLength(text);
      total += size;
      const fits = size <= LARGEST_REPRESENTATION && total <= LARGEST_BUNDLE;
      fields[`${fits ? "data" : "omitted"} ${kind}`] = fits ? text : String(size);
    }
    send(RESULT, fields);
  }

  function show(value, main) {
    const bundle = { "text/plain": util.inspect(value) };
    const method = value !== null && typeof value === "object" ? value[SHOW] : undefined;
    const made = typeof method === "function" ? method.call(value) : undefined;
    if (made && typeof made.then === "function") return made.then((more) => showBundle({ ...bundle, ...more }, main));
    showBundle({ ...bundle, ...made }, main);
    return undefined;
  }

  function display(value, options = {}) {
    return options.raw ? showBundle(value, false) : show(value, false);
  }

  function short(text) {
    const half = LARGEST_ERROR / 2;
    return text.length <= LARGEST_ERROR ? text : `${text.slice(0, half)}\n… ${text.length - 2 * half} characters …\n${text.slice(-half)}`;
  }

  // An exception as data: with the frames of the code, which come before ours.
  function described(thrown, file, code, details) {
    const isError = thrown instanceof Error;
    const name = isError ? String(thrown.name) : "Thrown";
    const message = isError ? String(thrown.message) : util.inspect(thrown);
    const lines = (isError && typeof thrown.stack === "string" ? thrown.stack : `${name}: ${message}`).split("\n");
    const ours = lines.findIndex((line) => line.includes("(node:inspector:") || line.includes("[eval]:"));
    let frames = lines.slice(0, ours < 0 ? lines.length : ours).join("\n");
    const fields = { name, message: short(message) };
    const place = frames.match(new RegExp(`${file}:(\\d+):(\\d+)`));
    if (thrown instanceof SyntaxError && !place && details?.scriptId !== undefined) {
      const sources = code.split("\n");
      const isInside = details.lineNumber < sources.length; // else the code ends too early
      const line = isInside ? details.lineNumber : sources.length - 1;
      const column = isInside ? details.columnNumber : sources[line].length;
      frames = `${file}:${line + 1}\n${sources[line]}\n${" ".repeat(column)}^\n${name}: ${message}`;
      Object.assign(fields, { line: String(line + 1), column: String(column + 1) });
    } else if (place) {
      fields.line = place[1];
    }
    const isImport = /import statement|Unexpected token 'export'/.test(message) || thrown?.code === "ERR_VM_DYNAMIC_IMPORT_CALLBACK_MISSING";
    return { ...fields, traceback: short(frames), ...(isImport ? { hint: IMPORT_HINT } : {}) };
  }

  function finish(cell, error) {
    if (running !== cell) return;
    running = null;
    session.post("Runtime.releaseObjectGroup", { objectGroup: "cell" });
    send(DONE, { number: String(cell.number), ...error });
  }

  function finishThrown(cell, thrown, details) {
    if (thrown instanceof ProcessExit && thrown.message === "0") return finish(cell, {});
    let error;
    try {
      error = described(thrown, cell.file, cell.code, details);
    } catch {
      error = { name: "Error", message: "its description raised an exception" };
    }
    return finish(cell, error);
  }

  function onEvaluated(cell, failed, answer) {
    if (running !== cell) return;
    try {
      if (failed || !answer) return finish(cell, { name: "Interrupted", message: "interrupted" });
      const details = answer.exceptionDetails;
      if (details) return finishThrown(cell, details.exception ? valueOf(details.exception) : new Error(details.text), details);
      const value = valueOf(answer.result);
      const shown = value === undefined ? undefined : show(value, true);
      if (shown) return shown.then(() => finish(cell, {}), (thrown) => finishThrown(cell, thrown));
      return finish(cell, {});
    } catch (thrown) {
      return finishThrown(cell, thrown);
    }
  }

  function run({ code, number }) {
    const cell = { code, number, file: `<cell-${number}>` };
    running = cell;
    const options = {
      expression: `${code}\n//# sourceURL=${cell.file}`, replMode: true, awaitPromise: false, objectGroup: "cell",
    };
    globalThis[START] = () => {
      delete globalThis[START];
      session.post("Runtime.evaluate", options, (failed, answer) => onEvaluated(cell, failed, answer));
    };
    try {
      start.runInThisContext({ breakOnSigint: true });
    } catch (thrown) {
      const interrupted = thrown?.code === "ERR_SCRIPT_EXECUTION_INTERRUPTED";
      if (interrupted) finish(cell, { name: "Interrupted", message: "interrupted" });
      else finishThrown(cell, thrown);
    }
  }

  // What code raises in a callback ends no cell: it is written to standard error, as a program of Node would end with it.
  function onUncaught(thrown) {
    if (thrown instanceof ProcessExit) {
      if (running) finishThrown(running, thrown);
      return;
    }
    process.stderr.write(`Uncaught ${util.inspect(thrown)}\n`);
  }

  process.on("uncaughtException", onUncaught);
  process.on("unhandledRejection", onUncaught);
  process.on("SIGINT", () => { if (running) finish(running, { name: "Interrupted", message: "interrupted" }); });
  process.exit = (code) => { throw new ProcessExit(code); };
  Object.defineProperty(globalThis, "display", { value: display, writable: true, configurable: true });

  let waiting = Buffer.alloc(0);
  const requests = new net.Socket({ fd: 3, readable: true, writable: false });
  requests.on("data", (data) => {
    waiting = Buffer.concat([waiting, data]);
    while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE()) {
      const end = 4 + waiting.readUInt32BE();
      const request = JSON.parse(waiting.subarray(4, end).toString());
      waiting = waiting.subarray(end);
      run(request);
    }
  });
  requests.on("end", () => process.reallyExit(0));
  send(READY, { version: process.versions.node });
}
