"""What a started command writes to a stream, for iterating in one thread while another receives it."""

from __future__ import annotations

import codecs

from capsule_run.engine.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from capsule_run.engine.live_output import LiveOutput

    class Fed(Protocol):
        """Takes the pieces of a stream."""

        def feed(self, piece: bytes) -> None: ...


# While somebody iterates over a stream, no more than this waits for it: then nothing is read, and the command waits.
HIGH_WATER_BYTES = 1 << 20


class Buffer:
    """The state of one stream: what is kept of it, and what waits for the one who iterates. Waits for nobody itself."""

    def __init__(self, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._kept = bytearray()
        self._waiting = bytearray()  # beyond what is kept, for the one who iterates
        self._reader_at: int | None = None  # how many of the kept bytes the one who iterates has taken
        self.has_ended = False

    def feed(self, piece: bytes) -> None:
        """Take a piece that has come."""
        room = max(self._keep_bytes - len(self._kept), 0)
        self._kept += piece[:room]
        if self._reader_at is not None:
            self._waiting += piece[room:]

    @property
    def has_room(self) -> bool:
        """Whether more of it is to be read now."""
        return len(self._waiting) < HIGH_WATER_BYTES

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        return bytes(self._kept)

    def begin(self) -> None:
        """Somebody iterates from now on."""
        self._reader_at = 0

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

    The first `keep_bytes` are kept for the result and for `read`. Iterating loses nothing: while somebody iterates, the
    command waits when it is too fast. What nobody iterates over is dropped beyond `keep_bytes`, and the command never waits.
    """

    def __init__(self, changed: threading.Condition, *, keep_bytes: int) -> None:
        self._changed, self._buffer = changed, Buffer(keep_bytes)

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

    def read(self) -> str:
        """Wait for the end of the stream, and return what was kept of it as text."""
        return self.read_bytes().decode("utf-8", "replace")

    def read_bytes(self) -> bytes:
        """Wait for the end of the stream, and return what was kept of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._buffer.has_ended)
            return self._buffer.content

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the stream from its start, in pieces as they come."""
        with self._changed:
            self._buffer.begin()
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
