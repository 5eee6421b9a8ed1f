"""What a started command writes to a stream, for iterating in one thread while another receives it."""

from __future__ import annotations

import codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

# While somebody iterates over a stream, no more than this waits for it: then nothing is read, and the command waits.
HIGH_WATER_BYTES = 1 << 20


class TextCallback:
    """Calls a function with the text of a stream: characters are never cut, and what is no UTF-8 becomes U+FFFD."""

    def __init__(self, on_text: Callable[[str], object]) -> None:
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, piece: bytes) -> None:
        if text := self._decoder.decode(piece):
            self._on_text(text)

    def end(self) -> None:
        """Hand on what an incomplete character was waiting for."""
        if text := self._decoder.decode(b"", final=True):
            self._on_text(text)


class OutputStream:
    """One output stream of a started command. Iterate over it for its lines as they come.

    The first `keep_bytes` are kept for the result and for `read`. Iterating loses nothing: while somebody iterates, the
    command waits when it is too fast. What nobody iterates over is dropped beyond `keep_bytes`, and the command never waits.
    """

    def __init__(
        self, changed: threading.Condition, *, keep_bytes: int, on_text: Callable[[str], object] | None
    ) -> None:
        self._changed, self._keep_bytes = changed, keep_bytes
        self._callback = None if on_text is None else TextCallback(on_text)
        self._kept = bytearray()
        self._waiting = bytearray()  # beyond what is kept, for the one who iterates
        self._reader_at: int | None = None  # how many bytes the one who iterates has taken
        self._total = 0
        self._ended = False

    # --- the thread that receives ---

    def feed(self, piece: bytes) -> None:
        """Take a piece that has come."""
        with self._changed:
            room = max(self._keep_bytes - len(self._kept), 0)
            self._kept += piece[:room]
            if self._reader_at is not None:
                self._waiting += piece[room:]
            self._total += len(piece)
            self._changed.notify_all()
        if self._callback is not None:
            self._callback(piece)

    def end(self) -> None:
        """Note that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._callback is not None:
            self._callback.end()

    @property
    def has_room(self) -> bool:
        """Whether more of it is to be read now."""
        return len(self._waiting) < HIGH_WATER_BYTES

    # --- the threads of the caller ---

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        with self._changed:
            return bytes(self._kept)

    def read(self) -> str:
        """Wait for the end of the stream, and return what was kept of it as text."""
        return self.read_bytes().decode("utf-8", "replace")

    def read_bytes(self) -> bytes:
        """Wait for the end of the stream, and return what was kept of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
            return bytes(self._kept)

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the stream from its start, in pieces as they come."""
        with self._changed:
            self._reader_at = 0
        while piece := self._next_piece():
            yield piece

    def _next_piece(self) -> bytes:
        """Wait for what the one who iterates has not seen; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._kept) > (self._reader_at or 0) or self._waiting or self._ended)
            at = self._reader_at or 0
            piece = bytes(self._kept[at:])
            self._reader_at = at + len(piece)
            if not piece:
                piece = bytes(self._waiting)
                self._waiting.clear()
            self._changed.notify_all()  # there is room again
        return piece

    def __iter__(self) -> Iterator[str]:
        """Yield the lines of the stream as they come, with their ends; the last one may have none."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        for piece in self.iter_bytes():
            *lines, rest = (rest + decoder.decode(piece)).split("\n")
            for line in lines:
                yield f"{line}\n"
        rest += decoder.decode(b"", final=True)
        if rest:
            yield rest
