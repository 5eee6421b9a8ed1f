"""Hand the command's output on as text while it runs, and list its pieces for `Result.output`."""

from __future__ import annotations

import codecs
import time
from collections import deque

from capsule_run._base.value import replace
from capsule_run.engine.streams import Streams
from capsule_run.request.validators import invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from capsule_run.model.result import Result
    from capsule_run.model.result_parts import OutputPiece, StreamName

    OnText = Callable[[str], object]

MAX_PIECES = 10_000  # of a result: a program that writes single bytes makes no list of millions


class CallbackError(Exception):
    """Raised through a run when a callback has raised: the steps of the run must not take its error for their own."""


class LiveOutput:
    """The output of one run. Pieces are decoded when they arrive; `calls` has the callbacks that are due.

    Both streams are listed if either has a callback. A character that is not complete waits for its rest, or for `flush`.
    """

    def __init__(self, on_stdout: OnText | None, on_stderr: OnText | None) -> None:
        """Raises CapsuleError E1005 if one is no function."""
        for name, given in (("on_stdout", on_stdout), ("on_stderr", on_stderr)):
            if given is not None and not callable(given):
                raise invalid("E1005", name, f"must be a function that takes a string, got {shown(given)}")
        self._callbacks: dict[StreamName, OnText | None] = {"stdout": on_stdout, "stderr": on_stderr}
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self._callbacks}
        self._due: deque[tuple[OnText, str]] = deque()
        self._pieces: list[tuple[float, StreamName, list[str]]] = []
        self._last: dict[StreamName, list[str]] = {}  # the texts of each stream's last piece
        self._began_ns = time.monotonic_ns()
        self.error: BaseException | None = None  # what a callback raised

    def streams(self, deliver: Callable[[], None] | None = None) -> Streams:
        """Return the streams of the run, which starts now.

        :param deliver: called after each piece.
        """
        self._began_ns = time.monotonic_ns()

        def on_data(name: StreamName) -> Callable[[bytes], None]:
            def arrived(data: bytes) -> None:
                self._arrived(name, self._decoders[name].decode(data))
                if deliver is not None:
                    deliver()

            return arrived

        return Streams(on_stdout=on_data("stdout"), on_stderr=on_data("stderr"))

    def flush(self) -> None:
        """The streams have ended: what is left of an incomplete character becomes U+FFFD."""
        for name, decoder in self._decoders.items():
            self._arrived(name, decoder.decode(b"", final=True))

    def calls(self) -> Iterator[tuple[OnText, str]]:
        """Take the callbacks that are due, in order, each with its text."""
        while self._due:
            yield self._due.popleft()

    def deliver(self) -> None:
        """Call the callbacks that are due. Raises CallbackError, with the cause in `error`."""
        for callback, text in self.calls():
            try:
                _refuse_awaitable(callback(text))
            except Exception as error:  # noqa: BLE001  # `run_live` raises it again
                self.error = error
                raise CallbackError from None

    @property
    def pieces(self) -> tuple[OutputPiece, ...]:
        """All pieces so far."""
        return tuple([(seconds, name, "".join(texts)) for seconds, name, texts in self._pieces])

    def _arrived(self, name: StreamName, text: str) -> None:
        if not text:
            return
        if len(self._pieces) < MAX_PIECES or name not in self._last:
            seconds = (time.monotonic_ns() - self._began_ns) // 1000 / 1e6
            self._last[name] = [text]
            self._pieces.append((seconds, name, self._last[name]))
        else:
            self._last[name].append(text)
        callback = self._callbacks[name]
        if callback is not None:
            self._due.append((callback, text))


def run_live(perform: Callable[[Streams], Result], on_stdout: OnText | None, on_stderr: OnText | None) -> Result:
    """Run with callbacks in the calling thread. What one of them raises ends the sandbox and is raised here."""
    live = LiveOutput(on_stdout, on_stderr)
    try:
        result = perform(live.streams(live.deliver))
        live.flush()
        live.deliver()
    except CallbackError:
        assert live.error is not None
        raised = live.error
    else:
        return with_pieces(result, live)
    raise raised  # outside of `except`, so that it has the context that the callback gave it


def with_pieces(result: Result, live: LiveOutput) -> Result:
    """Return the result with its pieces, if the command started."""
    return result if result.stdout_stream is None else replace(result, output=live.pieces)


def _refuse_awaitable(returned: object) -> None:
    if not hasattr(returned, "__await__"):
        return
    close = getattr(returned, "close", None)
    if close is not None:
        close()  # a coroutine that was never awaited warns
    raise invalid("E1005", "on_stdout/on_stderr", "coroutine functions need `capsule_run.aio`, which awaits them")
