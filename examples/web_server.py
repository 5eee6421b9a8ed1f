"""Start a web server in a sandbox, wait until it answers, and ask it from a second command.

    python examples/web_server.py

Without `network=True` the sandbox has a loopback network of its own: nobody outside reaches the server, and the server reaches
nobody. Commands of the same sandbox reach it.
"""

from __future__ import annotations

import capsule_run

SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
ASK = """
import sys, time, urllib.request
for _ in range(100):  # the server needs a moment
    try:
        answer = urllib.request.urlopen("http://127.0.0.1:8000" + sys.argv[1])
        break
    except OSError:  # refused
        time.sleep(0.1)
print(answer.status, answer.read().decode())
"""


def main() -> None:
    with capsule_run.Sandbox(memory="512M") as box:
        box.files.write("server.py", SERVER)
        box.files.write("ask.py", ASK)
        server = box.start(["python", "server.py"])
        for path in ("/", "/about"):
            print(box.run(["python", "ask.py", path]).check().stdout, end="")
        print("still running:", server.poll() is None)
        server.kill()


if __name__ == "__main__":
    main()
