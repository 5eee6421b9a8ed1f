"""JSON-RPC 2.0 over two descriptors, a message a line: what a client may send us, and the answers it gets back.

Knows nothing of MCP. The reader blocks in one thread; whatever is to be sent is queued and written by another, so that a
client that does not read holds back nothing but its answers, and no two messages ever mix. Used by `server.mcp`.
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Where the answer to a message goes: straight out, or into the answer of its batch. None says that there is none.
    Send = Callable[[dict[str, object] | None], None]

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
MAX_LINE_BYTES = 32 << 20  # a call carries code and input in it; a line without an end must not eat the host's memory
MAX_BATCH = 100
_CHUNK = 1 << 16
_FLUSH_SECONDS = 2.0  # for what is still to be written when all is over: nobody may be there to read it


class RpcError(Exception):
    """What becomes an error response instead of a result."""

    def __init__(self, code: int, message: str, *, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Reader:
    """Lines from a descriptor, as they come; None where one was too long, whose rest is thrown away."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready: list[bytes | None] = []
        self._parts: list[bytes] = []
        self._size = 0

    def lines(self, wait_seconds: Callable[[], float | None], on_time: Callable[[], None]) -> Iterator[bytes | None]:
        """Until the end of the stream. `on_time` is called whenever `wait_seconds()` have passed without a line."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            yield from self._ready
            self._ready.clear()
            wait = wait_seconds()
            if not poll.poll(None if wait is None else int(wait * 1000) + 1):
                on_time()
                continue
            chunk = posix.read(self._fd, _CHUNK)
            if not chunk:
                return  # a line without its end was not finished by who wrote it
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
    """Messages to a descriptor, in the order in which they are given, from any thread and without waiting."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self.errno = 0  # why nothing can be written any more: EPIPE where the client has closed its end
        self._thread = threading.Thread(target=self._write_all, name="mcp-writer", daemon=True)
        self._thread.start()

    def send(self, message: object) -> None:
        """Queue one message; None is none. JSON in ASCII has no newline of its own, whatever is in the strings."""
        if message is not None:
            self._queue.put(dumps(message, indent=None).encode("ascii") + b"\n")

    def close(self) -> None:
        """Write what is queued, as far as somebody reads it."""
        self._queue.put(None)
        self._thread.join(_FLUSH_SECONDS)

    def _write_all(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._write(memoryview(line))
            except OSError as error:
                self.errno = error.errno or EIO
                return

    def _write(self, view: memoryview) -> None:
        while view:
            try:
                view = view[posix.write(self._fd, view) :]
            except BlockingIOError:  # whoever started us may share the descriptor and want it so
                select.select([], [self._fd], [])


def result_message(request_id: object, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_message(request_id: object, error: RpcError) -> dict[str, object]:
    fields: dict[str, object] = {"code": error.code, "message": printable(str(error))}
    if error.data is not None:
        fields["data"] = error.data
    return {"jsonrpc": "2.0", "id": request_id, "error": fields}


def is_id(given: object) -> bool:
    """Whether a request may have this id: a string or a whole number (MCP allows no null)."""
    return isinstance(given, (str, int)) and not isinstance(given, bool)


def is_notification(message: dict[str, object]) -> bool:
    return "method" in message and "id" not in message


def is_answered(message: object) -> bool:
    """Whether a message gets an answer: neither a notification nor a response does, everything that is wrong does."""
    if not isinstance(message, dict):
        return True
    is_response = "method" not in message and ("result" in message or "error" in message)
    return not is_response and not is_notification(message)


class _Batch:
    """The answers to the messages of one array, sent as one array when the last of them is there."""

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
    """Hand each message of a line to `handle`, and answer what is no message. A blank line is none."""
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
