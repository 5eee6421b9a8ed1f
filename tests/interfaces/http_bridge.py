"""Streamable HTTP for a stdio server, as far as the conformance suite needs it: one POST, one answer."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_IMAGE = "import base64; open('a.png', 'wb').write(base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ'))"
# What the suite's fixture tools do, as calls of ours.
CALLS = {
    "test_simple_text": "print('This is a simple text response for testing.')",
    "test_image_content": _IMAGE,
    "test_embedded_resource": "open('a.txt', 'w').write('This is an embedded resource content.')",
    "test_multiple_content_types": f"print('Multiple content types test:'); {_IMAGE}; open('a.txt', 'w').write('x')",
    "test_error_handling": "raise SystemExit('This tool intentionally returns an error for testing')",
}


class Bridge:
    """An HTTP server on loopback in front of a `Server`; a context manager."""

    def __init__(self, server):
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if message.get("method") == "tools/call" and message["params"]["name"] in CALLS:
                    code = CALLS[message["params"]["name"]]
                    message["params"].update(name="execute_code", arguments={"language": "python", "code": code})
                with lock:
                    server.send(message)
                    answer = server.receive() if "id" in message and "method" in message else None
                body = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(200 if body else 202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.send_error(405)

            def log_message(self, *_words):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self.url = f"http://127.0.0.1:{self._http.server_port}/mcp"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
