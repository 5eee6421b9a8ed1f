"""The streams of a started command: what it reads, and what it writes, for iterating while another thread receives it."""

from __future__ import annotations

import codecs
import time
from io import FileIO

from capsule_run.engine.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from typing import Protocol, Self

    from typing_extensions import Buffer

    from capsule_run.engine.live_output import LiveOutput

    class Fed(Protocol):
        """Takes the pieces of a stream."""

        def feed(self, piece: bytes) -> None: ...


# No more than this waits for the one who iterates: then nothing is read, and the command waits.
HIGH_WATER_BYTES = 1 << 20
# How long the output of a command waits for somebody who takes it. A server whose log nobody reads then goes on.
GRACE_S = 10.0


class InputFile(FileIO):
    """What the command reads: an unbuffered file that takes text, too, as UTF-8."""

    def write(self, data: str | Buffer, /) -> int:
        """Write all of it. Raises BrokenPipeError if the command has ended or has closed its input."""
        view = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        written = 0
        while written < len(view):
            written += super().write(view[written:])
        return written


class Grace:
    """The time after the start of a command in which its output waits for somebody who takes it; both streams share it.

    Iterating over one of them, reading one or waiting for the command ends it, since the other would hold the command up.
    """

    def __init__(self, seconds: float = GRACE_S) -> None:
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the command may go on, though nobody takes what it writes."""
        return time.monotonic() >= self._until

    def end(self) -> None:
        """The command may go on."""
        self._until = 0.0


class OutputBuffer:
    """The state of one stream: what is kept of it, and what waits for the one who iterates. Waits for nobody itself."""

    def __init__(self, keep_bytes: int, grace: Grace) -> None:
        self._keep_bytes, self._grace = keep_bytes, grace
        self._kept = bytearray()
        self._waiting = bytearray()  # beyond what is kept, for the one who iterates
        self._reader_at: int | None = None  # how many of the kept bytes the one who iterates has taken
        self._is_unread = True  # nobody has iterated yet
        self.has_ended = False
        self.missing_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take a piece that has come."""
        room = max(self._keep_bytes - len(self._kept), 0)
        self._kept += piece[:room]
        rest = piece[room:]
        if self._reader_at is not None or (self._is_unread and len(self._waiting) < HIGH_WATER_BYTES):
            self._waiting += rest
        else:
            self.missing_bytes += len(rest)

    @property
    def has_room(self) -> bool:
        """Whether more of it is to be read now."""
        return len(self._waiting) < HIGH_WATER_BYTES or (self._reader_at is None and self._grace.is_over)

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        return bytes(self._kept)

    def begin(self) -> None:
        """Somebody iterates from now on."""
        self._reader_at, self._is_unread = 0, False
        self._grace.end()

    def next_piece(self) -> bytes:
        """Return what the one who iterates has not seen yet; empty if there is nothing now."""
        at = self._reader_at or 0
        if piece := bytes(self._kept[at:]):
            self._reader_at = at + len(piece)
            return piece
        piece = bytes(self._waiting)
        self._waiting.clear()
        return piece

    def stop(self) -> None:
        """Nobody iterates any more: nothing waits for anybody."""
        self._reader_at = None
        self.missing_bytes += len(self._waiting)
        self._waiting.clear()


class Lines:
    """Cuts the pieces of a stream into lines of text, with their ends."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def cut(self, piece: bytes) -> list[str]:
        """Return the lines that a piece completes."""
        *lines, self._rest = (self._rest + self._decoder.decode(piece)).split("\n")
        return [f"{line}\n" for line in lines]

    def last(self) -> list[str]:
        """Return the last line, which has no end, if there is one."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        return [rest] if rest else []


def streams_of(
    outputs: tuple[Fed, Fed],
    live: LiveOutput | None,
    *,
    stdin: int | None,
    keep_bytes: int,
    deliver: Callable[[], None] | None = None,
) -> Streams:
    """Return the streams of a started command: its outputs, and the callbacks of the caller behind them.

    :param deliver: called after each piece that callbacks take.
    """
    texts = Streams() if live is None else live.streams(deliver)

    def on_data(output: Fed, on_text: Callable[[bytes], None] | None) -> Callable[[bytes], None]:
        if on_text is None:
            return output.feed

        def both(piece: bytes) -> None:
            output.feed(piece)
            on_text(piece)

        return both

    return Streams(
        stdin=stdin,
        on_stdout=on_data(outputs[0], texts.on_stdout),
        on_stderr=on_data(outputs[1], texts.on_stderr),
        keep_bytes=keep_bytes,
    )


class OutputStream:
    """One output stream of a started command. Iterate over it for its lines as they come.

    The first `keep_bytes` are kept for the result and for `read`. Iterating loses nothing: the command waits when it is too
    fast, also for somebody who begins within ten seconds of its start. After that, or once somebody waits for the command,
    what nobody iterates over is dropped beyond 1 MiB more, the command never waits, and `missing_bytes` says how many.
    """

    def __init__(self, changed: threading.Condition, *, keep_bytes: int, grace: Grace) -> None:
        self._changed, self._buffer, self._grace = changed, OutputBuffer(keep_bytes, grace), grace
        self._owner: object = None

    def owned_by(self, owner: object) -> Self:
        """Return this stream as an object that keeps `owner` alive: a process whose output somebody has is not collected."""
        view = object.__new__(type(self))
        vars(view).update(vars(self), _owner=owner)
        return view

    # --- the thread that receives ---

    def feed(self, piece: bytes) -> None:
        """Take a piece that has come."""
        with self._changed:
            self._buffer.feed(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """Note that nothing more comes."""
        with self._changed:
            self._buffer.has_ended = True
            self._changed.notify_all()

    @property
    def has_room(self) -> bool:
        """Whether more of it is to be read now."""
        return self._buffer.has_room

    # --- the threads of the caller ---

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        with self._changed:
            return self._buffer.content

    @property
    def missing_bytes(self) -> int:
        """How many bytes were dropped, since nobody iterated: they are neither kept nor come when somebody begins."""
        with self._changed:
            return self._buffer.missing_bytes

    def read(self) -> str:
        """Wait for the end of the stream, and return what was kept of it as text."""
        return self.read_bytes().decode("utf-8", "replace")

    def read_bytes(self) -> bytes:
        """Wait for the end of the stream, and return what was kept of it."""
        with self._changed:
            self._grace.end()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._buffer.has_ended)
            return self._buffer.content

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the stream from its start, in pieces as they come."""
        with self._changed:
            self._buffer.begin()
            self._changed.notify_all()  # the other stream waits for nobody
        try:
            while piece := self._next_piece():
                yield piece
        finally:
            with self._changed:
                self._buffer.stop()
                self._changed.notify_all()

    def _next_piece(self) -> bytes:
        """Wait for what the one who iterates has not seen; empty at the end."""
        with self._changed:
            while not (piece := self._buffer.next_piece()) and not self._buffer.has_ended:
                self._changed.wait()
            self._changed.notify_all()  # there is room again
        return piece

    def __iter__(self) -> Iterator[str]:
        """Yield the lines of the stream as they come, with their ends; the last one may have none."""
        lines = Lines()
        for piece in self.iter_bytes():
            yield from lines.cut(piece)
        yield from lines.last()
