"""The streams of a started command on an event loop: its input, and what it writes."""

from __future__ import annotations

import asyncio
import os

from capsule_run.aio.thread import set_once
from capsule_run.sandbox.streams import Grace, Lines, OutputBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self


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

    The rules are those of the blocking one (`sandbox.streams.OutputStream`).
    """

    def __init__(self, *, keep_bytes: int, grace: Grace) -> None:
        self._changed, self._buffer, self._grace = asyncio.Event(), OutputBuffer(keep_bytes, grace), grace
        self.on_room: Callable[[], None] = _nothing  # called when more may be read
        self._owner: object = None

    def owned_by(self, owner: object) -> Self:
        """Return this stream as an object that keeps `owner` alive, as the blocking one does."""
        view = object.__new__(type(self))
        vars(view).update(vars(self), _owner=owner)
        return view

    def feed(self, piece: bytes) -> None:
        """Take a piece that has come."""
        self._buffer.feed(piece)
        self._changed.set()

    def end(self) -> None:
        """Note that nothing more comes."""
        self._buffer.has_ended = True
        self._changed.set()

    @property
    def has_room(self) -> bool:
        """Whether more of it is to be read now."""
        return self._buffer.has_room

    @property
    def content(self) -> bytes:
        """What has come so far, as far as it is kept."""
        return self._buffer.content

    @property
    def missing_bytes(self) -> int:
        """How many bytes were dropped, since nobody iterated: they are neither kept nor come when somebody begins."""
        return self._buffer.missing_bytes

    async def read(self) -> str:
        """Wait for the end of the stream, and return what was kept of it as text."""
        return (await self.read_bytes()).decode("utf-8", "replace")

    async def read_bytes(self) -> bytes:
        """Wait for the end of the stream, and return what was kept of it."""
        self._grace.end()
        self.on_room()
        while not self._buffer.has_ended:
            await self._change()
        return self._buffer.content

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the stream from its start, in pieces as they come."""
        self._buffer.begin()
        self.on_room()  # the other stream waits for nobody
        try:
            while True:
                if piece := self._buffer.next_piece():
                    self.on_room()
                    yield piece
                elif self._buffer.has_ended:
                    return
                else:
                    await self._change()
        finally:
            self._buffer.stop()
            self.on_room()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the lines of the stream as they come, with their ends; the last one may have none."""
        lines = Lines()
        async for piece in self.iter_bytes():
            for line in lines.cut(piece):
                yield line
        for line in lines.last():
            yield line

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _nothing() -> None:
    """Nobody waits for room."""
