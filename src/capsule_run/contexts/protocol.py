"""Encode what goes to an interpreter in the sandbox, and decode what comes from it.

Pure. Everything that comes is written by code that nobody trusts: it has a strict form, without nesting, and limits of size, so
that the most a forged message can do is to lie about the code that wrote it. Anything else raises BrokenMessageError.
"""

from __future__ import annotations

import struct

from capsule_run._base import strict_json
from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Frames: the relay's, `inside/relay.py`. Messages: the interpreter's, `inside/python_driver.py` and `inside/node_driver.js`.
REQUEST, INTERRUPT = 1, 2
STDOUT, STDERR, MESSAGES, END = 1, 2, 3, 4
READY, RESULT, DONE = 1, 2, 3

_FRAME_HEADER = struct.Struct(">BI")
_LENGTH = struct.Struct(">I")
LARGEST_FRAME = 1 << 16
LARGEST_MESSAGE = 24 << 20  # the display keeps a bundle under 16 MiB
MOST_TEXTS = 512  # in a message: names and values
LONGEST_NAME = 256
LARGEST_REQUEST = 64 << 20
_LARGEST_NUMBER = 15  # digits


class BrokenMessageError(ValueError):
    """Raised for bytes that no interpreter of ours writes. The text says what is wrong with them."""


class Written(Value):
    """Bytes that the code wrote to a stream."""

    stream: int
    """STDOUT or STDERR."""
    data: bytes


class Ready(Value):
    """The interpreter waits for its first cell."""

    version: str


class Displayed(Value):
    """A value with its representations."""

    data: dict[str, str]
    omitted: dict[str, int]
    is_main: bool


class Done(Value):
    """A cell has ended."""

    number: int
    error: dict[str, str]
    """`name`, `message`, `traceback`, `line`, `column` and `hint`, as far as they are there; empty without an exception."""


class Ended(Value):
    """The interpreter itself has ended."""

    how: str
    """`exit` or `signal`."""
    number: int


def encode_request(code: str, *, number: int, memory_bytes: int | None) -> bytes:
    """Return the frame that asks for a cell."""
    fields = {"code": code, "number": number, "memory_bytes": memory_bytes}
    payload = strict_json.dumps(fields, indent=None).encode("ascii")
    return _FRAME_HEADER.pack(REQUEST, len(payload)) + payload


def encode_interrupt() -> bytes:
    """Return the frame that interrupts the running cell."""
    return _FRAME_HEADER.pack(INTERRUPT, 0)


class Decoder:
    """Decode the bytes of one interpreter as they come, in pieces of any size."""

    def __init__(self) -> None:
        self._frames = bytearray()
        self._messages = bytearray()

    def feed(self, data: bytes) -> Iterator[Written | Ready | Displayed | Done | Ended]:
        """Yield what is complete. Raises BrokenMessageError."""
        self._frames += data
        while len(self._frames) >= _FRAME_HEADER.size:
            kind, length = _FRAME_HEADER.unpack_from(self._frames)
            if not STDOUT <= kind <= END or length > LARGEST_FRAME:
                raise BrokenMessageError(f"a frame of kind {kind} with {length} bytes")
            end = _FRAME_HEADER.size + length
            if len(self._frames) < end:
                return
            payload = bytes(self._frames[_FRAME_HEADER.size : end])
            del self._frames[:end]
            if kind == MESSAGES:
                self._messages += payload
                yield from self._complete_messages()
            else:
                yield _ended(payload) if kind == END else Written(stream=kind, data=payload)

    def _complete_messages(self) -> Iterator[Ready | Displayed | Done]:
        while len(self._messages) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._messages)
            if not 1 <= length <= LARGEST_MESSAGE:
                raise BrokenMessageError(f"a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._messages) < end:
                return
            payload = bytes(self._messages[_LENGTH.size : end])
            del self._messages[:end]
            yield _message(payload)


def _ended(payload: bytes) -> Ended:
    how, _, number = payload.decode("ascii", "replace").partition(" ")
    if how not in ("exit", "signal"):
        raise BrokenMessageError(f"an end by {how!r:.40}")
    return Ended(how=how, number=_number(number))


def _message(payload: bytes) -> Ready | Displayed | Done:
    kind, texts = payload[0], _texts(payload)
    if len(texts) % 2:
        raise BrokenMessageError("a name without a value")
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    if any(len(name) > LONGEST_NAME for name in fields):
        raise BrokenMessageError("a name that is too long")
    if kind == RESULT:
        return _displayed(fields)
    elif kind == DONE:
        number = _number(fields.pop("number", ""))
        return Done(number=number, error=fields)
    elif kind == READY:
        return Ready(version=fields.get("version", ""))
    raise BrokenMessageError(f"a message of kind {kind}")


def _texts(payload: bytes) -> list[str]:
    found: list[str] = []
    start = 1
    while start < len(payload):
        if start + _LENGTH.size > len(payload) or len(found) == MOST_TEXTS:
            raise BrokenMessageError("a text without an end, or too many")
        (length,) = _LENGTH.unpack_from(payload, start)
        start += _LENGTH.size
        if start + length > len(payload):
            raise BrokenMessageError("a text that is longer than its message")
        found.append(payload[start : start + length].decode("utf-8", "replace"))
        start += length
    return found


def _displayed(fields: dict[str, str]) -> Displayed:
    data, omitted = {}, {}
    for name, value in fields.items():
        part, _, kind = name.partition(" ")
        if part == "data" and kind:
            data[kind] = value
        elif part == "omitted" and kind:
            omitted[kind] = _number(value)
        elif name != "main":
            raise BrokenMessageError(f"a result with {name!r:.40}")
    return Displayed(data=data, omitted=omitted, is_main=fields.get("main") == "1")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _LARGEST_NUMBER):
        raise BrokenMessageError(f"{text!r:.40} as a number")
    return int(text)
