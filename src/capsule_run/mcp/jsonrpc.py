"""JSON-RPC 2.0 over two descriptors, one message a line.

Knows nothing about MCP. One thread reads and blocks; another writes what is queued, so that a client that does not read
delays only its own answers, and messages never mix. Used by `session`.
"""

from __future__ import annotations

import posix
import select
import threading
from _queue import SimpleQueue
from errno import EIO

from capsule_run._base.errors import CapsuleError
from capsule_run._base.printable import printable
from capsule_run._base.strict_json import dumps, loads
from capsule_run.host.caller_files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Sends the answer to a message: at once, or with the answers of its batch. None: there is no answer.
    Send = Callable[[dict[str, object] | None], None]

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
MAX_LINE_BYTES = 32 << 20  # a line carries code and input; the bound protects the host's memory
MAX_BATCH = 100
_CHUNK = 1 << 16
_FLUSH_SECONDS = 2.0  # for what is still queued at the end; the client may no longer read


class RpcError(Exception):
    """Raised for a request that gets an error response."""

    def __init__(self, code: int, message: str, *, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Reader:
    """Reads lines from a descriptor; None stands for a line that was too long and was discarded."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready: list[bytes | None] = []
        self._parts: list[bytes] = []
        self._size = 0

    def lines(self, wait_seconds: Callable[[], float | None], on_timeout: Callable[[], None]) -> Iterator[bytes | None]:
        """Yield lines until the end of the stream. Call `on_timeout` whenever `wait_seconds()` pass without one."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            yield from self._ready
            self._ready.clear()
            wait = wait_seconds()
            if not poll.poll(None if wait is None else int(wait * 1000) + 1):
                on_timeout()
                continue
            chunk = posix.read(self._fd, _CHUNK)
            if not chunk:
                return  # ignore an unfinished last line
            self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._add(part)
            self._ready.append(b"".join(self._parts) if self._size <= MAX_LINE_BYTES else None)
            self._parts, self._size = [], 0
        self._add(rest)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MAX_LINE_BYTES:
            self._parts.clear()
        elif part:
            self._parts.append(part)


class Writer:
    """Writes messages to a descriptor in order. `send` may be called from any thread and never waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self.errno = 0  # of the failed write after which nothing is written; EPIPE if the client closed its end
        self._thread = threading.Thread(target=self._write_all, name="mcp-writer", daemon=True)
        self._thread.start()

    def send(self, message: object) -> None:
        """Queue one message; ignore None. JSON in ASCII contains no newline, whatever the strings are."""
        if message is not None:
            self._queue.put(dumps(message, indent=None).encode("ascii") + b"\n")

    def close(self) -> None:
        """Write what is queued, and wait for it at most `_FLUSH_SECONDS`."""
        self._queue.put(None)
        self._thread.join(_FLUSH_SECONDS)

    def _write_all(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                write_all(self._fd, line)
            except OSError as error:
                self.errno = error.errno or EIO
                return


def result_message(request_id: object, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_message(request_id: object, error: RpcError) -> dict[str, object]:
    fields: dict[str, object] = {"code": error.code, "message": printable(str(error))}
    if error.data is not None:
        fields["data"] = error.data
    return {"jsonrpc": "2.0", "id": request_id, "error": fields}


def is_id(given: object) -> bool:
    """Return whether this is a valid request id: a string or a whole number (MCP allows no null)."""
    return isinstance(given, (str, int)) and not isinstance(given, bool)


def is_notification(message: dict[str, object]) -> bool:
    return "method" in message and "id" not in message


def is_answered(message: object) -> bool:
    """Return whether a message gets an answer: all do, invalid ones too, except notifications and responses."""
    if not isinstance(message, dict):
        return True
    is_response = "method" not in message and ("result" in message or "error" in message)
    return not is_response and not is_notification(message)


class _Batch:
    """Collects the answers to one array of messages, and sends them as one array when the last is there."""

    def __init__(self, expected: int, send: Callable[[object], None]) -> None:
        self._left, self._send = expected, send
        self._answers: list[dict[str, object]] = []
        self._lock = threading.Lock()

    def add(self, answer: dict[str, object] | None) -> None:
        with self._lock:
            if answer is not None:
                self._answers.append(answer)
            self._left -= 1
            complete = self._left == 0 and bool(self._answers)
        if complete:
            self._send(self._answers)


def take(line: bytes | None, writer: Writer, handle: Callable[[dict[str, object], Send], None]) -> None:
    """Pass each message of a line to `handle`, and answer invalid ones. Ignore a blank line."""
    if line is not None and not line.strip():
        return
    try:
        messages = _parsed(line)
    except RpcError as error:
        writer.send(error_message(None, error))
        return
    if isinstance(messages, dict):
        handle(messages, writer.send)
        return
    batch = _Batch(sum(map(is_answered, messages)), writer.send)
    for message in messages:
        if isinstance(message, dict):
            handle(message, batch.add)
        else:
            batch.add(error_message(None, RpcError(INVALID_REQUEST, "a message must be an object")))


def _parsed(line: bytes | None) -> dict[str, object] | list[object]:
    if line is None:
        raise RpcError(INVALID_REQUEST, f"a message must be at most {MAX_LINE_BYTES} bytes")
    try:
        found = loads(line.decode())
    except UnicodeDecodeError:
        raise RpcError(PARSE_ERROR, "a message must be UTF-8") from None
    except CapsuleError as error:
        raise RpcError(PARSE_ERROR, str(error)) from None
    if isinstance(found, dict):
        return {**found}
    if isinstance(found, list) and 0 < len(found) <= MAX_BATCH:
        return [*found]
    raise RpcError(INVALID_REQUEST, f"a message must be an object, or a list of 1 to {MAX_BATCH}")
