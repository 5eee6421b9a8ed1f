"""The streams of a started command on an event loop: its input, and what it writes."""

from __future__ import annotations

import asyncio
import codecs
import os

from capsule_run.aio.thread import set_once
from capsule_run.sandbox.streams import HIGH_WATER_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class InputStream:
    """What the command reads: the writing end of a pipe."""

    def __init__(self, descriptor: int) -> None:
        """Own the descriptor, which does not block."""
        self._descriptor = descriptor
        self._writing = asyncio.Lock()

    async def write(self, data: str | bytes) -> None:
        """Write all of it, in the order of the calls, and wait while the pipe is full.

        Raises BrokenPipeError if the command has ended or has closed its input, ValueError if `close` was called.
        """
        view = memoryview(data.encode() if isinstance(data, str) else data)
        async with self._writing:
            while view:
                if self._descriptor < 0:
                    raise ValueError("the input is closed")
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    await self._writable()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._descriptor, set_once, ready)
        try:
            await ready
        finally:
            if self._descriptor >= 0 and not loop.is_closed():
                loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """Close it: the command reads end-of-file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            asyncio.get_running_loop().remove_writer(descriptor)
        except RuntimeError:  # no loop runs
            pass
        os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class OutputStream:
    """One output stream of a started command: `async for` takes its lines as they come.

    The first `keep_bytes` are kept for the result and for `read`. Iterating loses nothing: while somebody iterates, the
    command waits when it is too fast. What nobody iterates over is dropped beyond `keep_bytes`, and the command never waits.
    """

    def __init__(self, *, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._changed = asyncio.Event()
        self._kept = bytearray()
        self._waiting = bytearray()  # beyond what is kept, for the one who iterates
        self._reader_at: int | None = None  # how many bytes the one who iterates has taken
        self._ended = False
        self.on_room: Callable[[], None] = _nothing  # called when more may be read

    def feed(self, piece: bytes) -> None:
        """Take a piece that has come."""
        room = max(self._keep_bytes - len(self._kept), 0)
        self._kept += piece[:room]
        if self._reader_at is not None:
            self._waiting += piece[room:]
        self._changed.set()

    def end(self) -> None:
        """Note that nothing more comes."""
        self._ended = True
        self._changed.set()

    @property
    def has_room(self) -> bool:
        """Whether more of it is to be read now."""
        return len(self._waiting) < HIGH_WATER_BYTES

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        return bytes(self._kept)

    async def read(self) -> str:
        """Wait for the end of the stream, and return what was kept of it as text."""
        return (await self.read_bytes()).decode("utf-8", "replace")

    async def read_bytes(self) -> bytes:
        """Wait for the end of the stream, and return what was kept of it."""
        while not self._ended:
            await self._change()
        return bytes(self._kept)

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the stream from its start, in pieces as they come."""
        self._reader_at = 0
        try:
            while True:
                if piece := self._next_piece():
                    yield piece
                elif self._ended:
                    return
                else:
                    await self._change()
        finally:
            self._reader_at = None
            self._waiting.clear()
            self.on_room()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the lines of the stream as they come, with their ends; the last one may have none."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        async for piece in self.iter_bytes():
            *lines, rest = (rest + decoder.decode(piece)).split("\n")
            for line in lines:
                yield f"{line}\n"
        rest += decoder.decode(b"", final=True)
        if rest:
            yield rest

    def _next_piece(self) -> bytes:
        at = self._reader_at or 0
        if piece := bytes(self._kept[at:]):
            self._reader_at = at + len(piece)
        else:
            piece = bytes(self._waiting)
            self._waiting.clear()
            self.on_room()
        return piece

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _nothing() -> None:
    """Nobody waits for room."""
