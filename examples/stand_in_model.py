"""A stand-in for a model, so that the examples for model APIs run anywhere: on loopback, without a key.

    python examples/stand_in_model.py python examples/openai_agent.py

Starts a server that speaks the wire formats of OpenAI (Chat Completions, Responses) and Anthropic (Messages), runs the
command with the variables that point those SDKs at it, and ends with the command's exit code. The "model" follows a
script: it calls the tool with code that has a mistake, then with code that has none, then quotes what the tool said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

SCRIPT = [
    {"code": "print(6 *)", "language": "python"},
    {"code": "print(6 * 7)", "language": "python", "timeout_seconds": 20},
]
SHELL_SCRIPT = [["echo one; echo two >&2", "exit 3"], ["echo $((6 * 7))"]]


class StandIn(ThreadingHTTPServer):
    """The server. `requests` are what it was sent, `script` the arguments of the calls that it makes."""

    daemon_threads = True

    def __init__(self, script: list[object] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[object] = SCRIPT if script is None else script
        self.requests: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes the SDKs come here."""
        keys = {"OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none"}
        return {**keys, "OPENAI_BASE_URL": f"{self.url}/v1", "ANTHROPIC_BASE_URL": self.url}

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_words: object) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        answers = {"/v1/chat/completions": chat, "/v1/responses": responses, "/v1/messages": messages}
        answer = answers[self.path.partition("?")[0]](request, self.server.script)
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _final(said: object) -> str:
    return f"The tool said:\n{said if isinstance(said, str) else json.dumps(said)}"


def _arguments(call: object) -> str:
    """A script may hold text that is no JSON, as models sometimes send."""
    return call if isinstance(call, str) else json.dumps(call)


def chat(request: dict, script: list) -> dict:
    """Chat Completions."""
    said = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    message: dict = {"role": "assistant", "content": None, "refusal": None}
    if len(said) < len(script):
        name = request["tools"][0]["function"]["name"]
        function = {"name": name, "arguments": _arguments(script[len(said)])}
        message["tool_calls"] = [{"id": f"call_{len(said)}", "type": "function", "function": function}]
    else:
        message["content"] = _final(said[-1])
    reason = "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return {"id": "chat", "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice]}


def responses(request: dict, script: list) -> dict:
    """Responses, whose tools are functions or shells."""
    if request["tools"][0]["type"] != "function" and script is SCRIPT:
        script = SHELL_SCRIPT
    items = request["input"] if isinstance(request["input"], list) else []
    said = [item["output"] for item in items if str(item.get("type")).endswith("_call_output")]
    if len(said) < len(script):
        output = _responses_call(request["tools"][0], script[len(said)], f"call_{len(said)}")
    else:
        text = {"type": "output_text", "text": _final(said[-1]), "annotations": []}
        output = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": "resp",
        "object": "response",
        "created_at": 0,
        "model": request["model"],
        "status": "completed",
        "output": [output],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": request["tools"],
    }


def _responses_call(tool: dict, arguments: object, call_id: str) -> dict:
    call: dict = {"id": f"item_{call_id}", "call_id": call_id, "status": "completed"}
    if tool["type"] == "shell":
        return {**call, "type": "shell_call", "action": {"commands": arguments, "timeout_ms": 20_000}}
    if tool["type"] == "local_shell":
        words = ["bash", "-c", arguments[0]]
        return {**call, "type": "local_shell_call", "action": {"type": "exec", "command": words, "env": {"A": "b"}}}
    return {**call, "type": "function_call", "name": tool["name"], "arguments": _arguments(arguments)}


def messages(request: dict, script: list) -> dict:
    """Anthropic's Messages."""
    blocks = [b for m in request["messages"] if isinstance(m["content"], list) for b in m["content"]]
    said = [block["content"] for block in blocks if block.get("type") == "tool_result"]
    if len(said) < len(script):
        name = request["tools"][0]["name"]
        content = {"type": "tool_use", "id": f"toolu_{len(said)}", "name": name, "input": script[len(said)]}
    else:
        content = {"type": "text", "text": _final(said[-1])}
    return {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [content],
        "stop_reason": "tool_use" if content["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def main() -> int:
    with StandIn() as model:
        environment = {**os.environ, **model.environment}
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
