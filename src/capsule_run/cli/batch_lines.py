"""The lines of `capsule-run batch`: read requests as they come, and find the responses that a file has already."""

from __future__ import annotations

import binascii
import fcntl
import json
import posix
import select
from array import array
from stat import S_ISREG

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.request.parse import MAX_REQUEST_BYTES
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16
_START, _CURRENT = 0, 1  # SEEK_SET, SEEK_CUR
_WITHOUT_ID = 1 << 32  # no checksum


class Line(Value):
    """One line of the input."""

    number: int
    """From 1; empty lines count."""
    text: bytes | None
    """None if the line is longer than a request may be."""
    end: int
    """How many bytes of the input end with this line."""


class Lines:
    """Iterate over the lines of a descriptor that have something in them. `stop` ends a wait for more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._woken, self._wake = posix.pipe2(posix.O_CLOEXEC)
        self._end = 0

    def stop(self) -> None:
        """Let the iterator end at once. May be called from a signal handler."""
        posix.write(self._wake, b"x")

    def close(self) -> None:
        posix.close(self._woken)
        posix.close(self._wake)

    def __iter__(self) -> Iterator[Line]:
        number, parts, size = 0, list[bytes](), 0
        for chunk in self._chunks():
            pieces = chunk.split(b"\n")
            for piece in pieces[:-1]:
                number += 1
                self._end += size + len(piece) + 1
                line = Line(number=number, text=_joined(parts, piece, size), end=self._end)
                parts, size = [], 0
                if line.text is None or line.text.strip():
                    yield line
            size += len(pieces[-1])
            if size <= MAX_REQUEST_BYTES:
                parts.append(pieces[-1])
        if size:
            line = Line(number=number + 1, text=_joined(parts, b"", size), end=self._end + size)
            if line.text is None or line.text.strip():
                yield line

    def _chunks(self) -> Iterator[bytes]:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            if self._woken in [fd for fd, _events in poll.poll()]:
                return
            try:
                chunk = posix.read(self._fd, _CHUNK)
            except BlockingIOError:
                continue
            if not chunk:
                return
            yield chunk


def _joined(parts: list[bytes], last: bytes, size: int) -> bytes | None:
    return b"".join([*parts, last]) if size + len(last) <= MAX_REQUEST_BYTES else None


def size_left(fd: int) -> int | None:
    """Return how many bytes of a regular file are still to be read; None if nobody knows."""
    seen = posix.fstat(fd)
    return seen.st_size - posix.lseek(fd, 0, _CURRENT) if S_ISREG(seen.st_mode) else None


class Responses:
    """The file of `--resume`: which lines it has responses of. Locked against a second batch. A few bytes for each line."""

    def __init__(self, path: str) -> None:
        """Open or make the file, and read it. A last line that was not written whole is removed.

        Raises CapsuleError E1005, E1009, E6006.
        """
        self.path = path
        try:
            self.fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o666)
        except OSError as error:
            why = posix.strerror(error.errno or 0).lower()
            raise invalid("E1005", "--resume", f"cannot open {shown(path)}: {why}") from None
        self._ids = array("Q")  # by number: 0 if there is no response, else a checksum of its id
        self.count = 0
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError:
            posix.close(self.fd)
            raise invalid("E1009", "--resume", f"another batch writes to {shown(path)}") from None
        except OSError as error:
            posix.close(self.fd)
            why = posix.strerror(error.errno or 0).lower()
            raise invalid("E1005", "--resume", f"cannot read {shown(path)}: {why}") from None
        except CapsuleError:
            posix.close(self.fd)
            raise

    def _read(self) -> None:
        whole = place = 0
        with open(self.fd, "rb", closefd=False) as file:  # a descriptor
            for text in file:
                place += 1
                if not text.endswith(b"\n"):
                    break
                whole += len(text)
                self._add(text, place)
        if not S_ISREG(posix.fstat(self.fd).st_mode):
            raise invalid("E1005", "--resume", f"{shown(self.path)} is no regular file")
        posix.ftruncate(self.fd, whole)
        posix.lseek(self.fd, whole, _START)

    def _add(self, text: bytes, place: int) -> None:
        try:
            response = json.loads(text)
            number, name = response["line"], response["execution_id"]
        except (ValueError, KeyError, TypeError):
            number, name = 0, ""
        if type(number) is not int or number < 1 or not isinstance(name, str):
            why = f"line {place} of {shown(self.path)} is no response of `capsule-run batch`"
            raise invalid("E1005", "--resume", why, hint="name the file that the batch's responses are in")
        if number >= len(self._ids):
            self._ids.extend([0] * max(number + 1 - len(self._ids), len(self._ids)))
        self.count += self._ids[number] == 0
        self._ids[number] = _checksum(name)

    def has(self, line: Line) -> bool:
        """Return whether there is a response of a line. Raises CapsuleError E1009 if it is of another input's line."""
        found = self._ids[line.number] if line.number < len(self._ids) else 0
        name = _id_in(line.text) if found else None
        if name is not None and _checksum(name) != found:
            why = f"line {line.number} has the id {shown(name)}, and its response in {shown(self.path)} another one"
            raise invalid("E1009", "--resume", why, hint="resume with the input that the file's responses are of")
        return bool(found)

    def close(self) -> None:
        posix.close(self.fd)


def _checksum(name: str) -> int:
    return _WITHOUT_ID + binascii.crc32(name.encode("utf-8", "surrogatepass"))


def _id_in(text: bytes | None) -> str | None:
    """Return the execution id that a line names, if it can be read."""
    try:
        name = json.loads(text or b"")["execution_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None
