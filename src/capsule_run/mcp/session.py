"""The Model Context Protocol over stdin and stdout: `capsule-run mcp`, see docs/mcp.md.

Uses only the standard library: the official package takes a second of CPU time to start, fifty times a run. Supports every
published revision: those with the `initialize` handshake, and from 2026-07-28 on those in which each request names its
revision. Called by `cli.mcp`.
"""

from __future__ import annotations

import posix

from capsule_run import __version__
from capsule_run._base.errors import CapsuleError
from capsule_run.agents.conversations import Stop
from capsule_run.mcp.calls import Call, Calls, StatefulCall
from capsule_run.mcp.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Reader,
    RpcError,
    Writer,
    error_message,
    is_answered,
    is_id,
    is_notification,
    result_message,
    take,
)
from capsule_run.mcp.resources import ResourceStore, contents
from capsule_run.mcp.results import answer, invalid_call, not_set_up
from capsule_run.mcp.sandboxes import Sandboxes
from capsule_run.mcp.stateful import STATEFUL_DESCRIPTION, STATEFUL_TOOLS, stateful_answer, stateful_entry
from capsule_run.mcp.tools import TOOLS, call_request, changes_host, has_network, sandbox_description, tool_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from capsule_run._base.errors import Failure
    from capsule_run.agents.operator import Operator
    from capsule_run.mcp.calls import Finish, Outcome
    from capsule_run.mcp.jsonrpc import Send
    from capsule_run.model.request import Request

# Revisions that begin with `initialize`, oldest first, and those that do not.
HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
ENVELOPE_VERSIONS = ("2026-07-28",)
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
_SERVER_KEY = "io.modelcontextprotocol/serverInfo"
UNSUPPORTED_VERSION, RESOURCE_NOT_FOUND, TOO_MANY_CALLS = -32022, -32002, -32000
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
# Milliseconds for which a client may cache an answer: tools change only with the operator's options, files with each call.
_CACHEABLE = {
    "server/discover": 3_600_000,
    "tools/list": 3_600_000,
    "resources/list": 0,
    "resources/templates/list": 3_600_000,
    "resources/read": 0,
}
_SERVER = {"name": "capsule-run", "title": "capsule-run sandbox", "version": __version__}


class Session:
    """The state of one client's connection."""

    def __init__(
        self, limits: Operator, writer: Writer, *, sandboxes: int = 0, idle_timeout_ms: int | None = None
    ) -> None:
        self._limits = limits
        self._boxes = Sandboxes(limits, most=sandboxes, idle_timeout_ms=idle_timeout_ms) if sandboxes else None
        self._writer = writer
        self._store = ResourceStore()
        self._level = "warning"
        self.calls = Calls()
        self._methods: dict[str, Callable[[Mapping[str, object]], dict[str, object]]] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": lambda _params: {},
            "logging/setLevel": self._set_level,
            "tools/list": self._tools,
            "resources/list": self._resources,
            "resources/templates/list": self._templates,
            "resources/read": self._read,
        }

    def handle(self, message: dict[str, object], send: Send) -> None:
        """Handle one message. Its answer, if it has one, is passed to `send`, now or when the call has ended."""
        if not is_answered(message):
            if is_notification(message):
                self._notified(message)
            return
        request_id = message.get("id")
        if not is_id(request_id):
            send(error_message(None, RpcError(INVALID_REQUEST, "`id` must be a string or a whole number")))
            return
        try:
            self._request(message, request_id, send)
        except RpcError as error:
            send(error_message(request_id, error))

    def end(self) -> None:
        """End every call and every sandbox."""
        self.calls.end()
        if self._boxes is not None:
            self._boxes.end()

    def _notified(self, message: dict[str, object]) -> None:
        params = message.get("params")
        if message["method"] == "notifications/cancelled" and isinstance(params, dict):
            request_id = params.get("requestId")
            if is_id(request_id):
                self.calls.cancel(request_id)

    def _request(self, message: dict[str, object], request_id: object, send: Send) -> None:
        method, params = message.get("method"), message.get("params", {})
        if message.get("jsonrpc") != "2.0" or not isinstance(method, str):
            raise RpcError(INVALID_REQUEST, 'a request needs `"jsonrpc": "2.0"` and a `method`')
        if not isinstance(params, dict):
            raise RpcError(INVALID_PARAMS, "`params` must be an object")
        meta = params.get("_meta", {})
        if not isinstance(meta, dict):
            raise RpcError(INVALID_PARAMS, "`_meta` must be an object")
        envelope = _VERSION_KEY in meta and method != "initialize"
        if envelope:
            _check_envelope(meta)
        if method == "tools/call":
            self._call(params, meta, request_id, send, envelope=envelope)
        elif method in self._methods:
            send(
                result_message(
                    request_id, _with_revision_fields(method, self._methods[method](params), envelope=envelope)
                )
            )
        else:
            raise RpcError(METHOD_NOT_FOUND, "method not found", data={"method": method})

    # Methods that are answered at once

    def _initialize(self, params: Mapping[str, object]) -> dict[str, object]:
        asked = params.get("protocolVersion")
        if not isinstance(asked, str):
            raise RpcError(INVALID_PARAMS, "`protocolVersion` must be a string")
        version = asked if asked in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]
        about = {"serverInfo": _SERVER, "instructions": self._instructions()}
        return {"protocolVersion": version, "capabilities": {"tools": {}, "resources": {}, "logging": {}}, **about}

    def _discover(self, _params: Mapping[str, object]) -> dict[str, object]:
        return {
            "supportedVersions": [*HANDSHAKE_VERSIONS, *ENVELOPE_VERSIONS],
            "capabilities": {"tools": {}, "resources": {}},
            "instructions": self._instructions(),
        }

    def _instructions(self) -> str:
        one_shot = sandbox_description(self._limits)
        return one_shot if self._boxes is None else f"execute_code, execute_command: {one_shot} {STATEFUL_DESCRIPTION}"

    def _set_level(self, params: Mapping[str, object]) -> dict[str, object]:
        level = params.get("level")
        if level not in LEVELS:
            raise RpcError(INVALID_PARAMS, f"`level` must be one of: {', '.join(LEVELS)}")
        self._level = str(level)
        return {}

    def _tools(self, params: Mapping[str, object]) -> dict[str, object]:
        _no_cursor(params)
        entries = [tool_entry(tool, self._limits) for tool in TOOLS.values()]
        if self._boxes is not None:
            writes, network = changes_host(self._limits), has_network(self._limits)
            entries += [
                stateful_entry(tool, self._limits, writes=writes, network=network) for tool in STATEFUL_TOOLS.values()
            ]
        return {"tools": entries}

    def _resources(self, params: Mapping[str, object]) -> dict[str, object]:
        _no_cursor(params)
        return {"resources": list(self._store.listed())}

    def _templates(self, params: Mapping[str, object]) -> dict[str, object]:
        _no_cursor(params)
        return {"resourceTemplates": []}

    def _read(self, params: Mapping[str, object]) -> dict[str, object]:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise RpcError(INVALID_PARAMS, "`uri` must be a string")
        file = self._store.get(uri)
        if file is None:
            raise RpcError(RESOURCE_NOT_FOUND, "no such file, or no longer kept", data={"uri": uri})
        return {"contents": [contents(file)]}

    # Tool calls

    def _call(
        self,
        params: Mapping[str, object],
        meta: Mapping[str, object],
        request_id: object,
        send: Send,
        *,
        envelope: bool,
    ) -> None:
        name, arguments, boxes = str(params.get("name")), params.get("arguments", {}), self._boxes
        known = [*TOOLS, *(STATEFUL_TOOLS if boxes is not None else ())]
        if name not in known:
            raise RpcError(INVALID_PARAMS, "unknown tool", data={"known": known})
        if request_id in self.calls:
            raise RpcError(INVALID_REQUEST, "a call with this id is still running")
        level = meta.get(_LOG_LEVEL_KEY) if envelope else self._level

        def respond(fields: dict[str, object]) -> None:
            send(result_message(request_id, _with_revision_fields("tools/call", fields, envelope=envelope)))

        finish = self._finisher(request_id, send, respond, level)
        if boxes is None or name in TOOLS:
            tool = TOOLS[name]
            call = Call(lambda: call_request(tool, arguments, self._limits), finish, self._progress(meta))
        else:
            stateful, stop = STATEFUL_TOOLS[name], Stop()
            call = StatefulCall(lambda: stateful_answer(stateful, arguments, boxes, self._limits, stop), stop, finish)
        self._start(request_id, call)

    def _finisher(
        self, request_id: object, send: Send, respond: Callable[[dict[str, object]], None], level: object
    ) -> Finish:
        """Return what a call does at its end: it sends the answer."""

        def finish(request: Request | None, outcome: Outcome, *, cancelled: bool) -> None:
            if cancelled:
                send(None)
            elif isinstance(outcome, dict):
                respond(outcome)
            elif outcome is None:
                send(error_message(request_id, RpcError(INTERNAL_ERROR, "internal error")))
            elif isinstance(outcome, CapsuleError) and request is None:
                respond(invalid_call(outcome))
            elif isinstance(outcome, CapsuleError):
                self._log(outcome.failure(), level)
                respond(not_set_up(outcome))
            elif request is not None:
                if outcome.error is not None and outcome.error.code.startswith(("E2", "E6")):
                    self._log(outcome.error, level)
                respond(answer(outcome, request, self._limits, self._store))

        return finish

    def _start(self, request_id: object, call: Call) -> None:
        if not self.calls.start(request_id, call):
            raise RpcError(TOO_MANY_CALLS, "too many calls are under way: try again when some have ended")

    def _progress(self, meta: Mapping[str, object]) -> Callable[[float, Request | None], None] | None:
        token = meta.get("progressToken")
        if not is_id(token):
            return None

        def report(seconds: float, request: Request | None) -> None:
            most = ((request.timeout_ms if request is not None else None) or self._limits.timeout_ms) / 1000
            # `seconds` includes the time in which the call waited to start
            params = {"progressToken": token, "progress": round(seconds, 1), "total": max(most, round(seconds, 1))}
            self._notify("notifications/progress", {**params, "message": f"running for {seconds:.0f} s"})

        return report

    def _log(self, failure: Failure, level: object) -> None:
        """Log for the operator why the host, or a bug of ours, prevented a run; a model does not see this."""
        text = f"{failure.code}: {failure.message}" + (f" ({failure.hint})" if failure.hint else "")
        try:
            posix.write(2, f"capsule-run: {text}\n".encode())  # clients store a server's stderr as its log
        except OSError:
            pass  # a full or closed log must not end the server
        if level in LEVELS and LEVELS.index(str(level)) <= LEVELS.index("error"):
            self._notify("notifications/message", {"level": "error", "logger": "capsule-run", "data": text})

    def _notify(self, method: str, params: Mapping[str, object]) -> None:
        self._writer.send({"jsonrpc": "2.0", "method": method, "params": params})


def _no_cursor(params: Mapping[str, object]) -> None:
    if params.get("cursor") is not None:
        raise RpcError(INVALID_PARAMS, "unknown cursor: every list here is one page")


def _check_envelope(meta: Mapping[str, object]) -> None:
    version = meta[_VERSION_KEY]
    if not isinstance(version, str):
        raise RpcError(INVALID_PARAMS, f"`{_VERSION_KEY}` must be a string")
    if version not in ENVELOPE_VERSIONS:
        supported = {"supported": list(ENVELOPE_VERSIONS), "requested": version}
        raise RpcError(UNSUPPORTED_VERSION, "unsupported protocol version", data=supported)


def _with_revision_fields(method: str, fields: dict[str, object], *, envelope: bool) -> dict[str, object]:
    """Add the fields that the later revisions require of every result."""
    if not envelope:
        return fields
    if method in _CACHEABLE:
        fields = {**fields, "ttlMs": _CACHEABLE[method], "cacheScope": "private"}
    return {**fields, "resultType": "complete", "_meta": {_SERVER_KEY: _SERVER}}


def serve(limits: Operator, *, stdin: int, stdout: int, sandboxes: int = 0, idle_timeout_ms: int | None = None) -> int:
    """Serve one client until its input ends or a signal handler raises; end every run before leaving.

    :param sandboxes: how many the client may keep alive at a time; 0 leaves out the tools that keep state.
    :param idle_timeout_ms: how long one lives without a call.

    Returns 0, or the errno of a failed write, after which no further message is read.
    """
    writer = Writer(stdout)
    session = Session(limits, writer, sandboxes=sandboxes, idle_timeout_ms=idle_timeout_ms)
    try:
        for line in Reader(stdin).lines(session.calls.wait_seconds, session.calls.report_progress):
            take(line, writer, session.handle)
            if writer.errno:
                break
    finally:
        session.end()
        writer.close()
    return writer.errno
