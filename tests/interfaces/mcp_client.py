"""An MCP client of our own for tests: JSON-RPC lines to `capsule-run mcp`, with nothing between us and the wire."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import capsule_run

SECONDS = 30
MAIN = Path(capsule_run.__file__).parent / "__main__.py"


class Server:
    """One server and its pipes; a context manager that closes its input and expects it to end."""

    def __init__(self, *options, env=None, argv=None):
        # As the native launcher starts it: isolated, and without `site`.
        argv = argv or [sys.executable, "-I", "-S", MAIN]
        self.process = subprocess.Popen(
            [*argv, "mcp", *map(str, options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self._buffer = b""
        self._next_id = 100

    def __enter__(self):
        return self

    def __exit__(self, kind, *_error):
        if kind is not None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def write(self, raw):
        self.process.stdin.write(raw)
        self.process.stdin.flush()

    def send(self, message):
        self.write(json.dumps(message).encode() + b"\n")

    def receive(self, seconds=SECONDS):
        """The next message."""
        while b"\n" not in self._buffer:
            ready, *_ = select.select([self.process.stdout], [], [], seconds)
            assert ready, "the server says nothing"
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            assert chunk, f"the server has ended: {self.process.stderr.read()}"
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def ask(self, method, /, **params):
        """The answer to a request, without its envelope: the result, or the error."""
        request_id = self.start(method, **params)
        answer = self.receive()
        assert ("2.0", request_id) == (answer["jsonrpc"], answer["id"]), answer
        return answer.get("result", answer.get("error"))

    def start(self, method, /, **params):
        """Send a request and leave its answer to be received."""
        self._next_id += 1
        self.send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id

    def call(self, tool, /, **arguments):
        return self.ask("tools/call", name=tool, arguments=arguments)

    def python(self, code, /, **arguments):
        return self.call("execute_code", language="python", code=code, **arguments)
