"""The conversation with one interpreter: what to send, what what came means, and when a cell has to end.

Pure: `context` and `aio_context` read, write, hold the clock and end the process. A conversation begins with the start of a
process, and ends with it. Between the two it runs cells, one at a time.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

from capsule_run._base.statuses import ERROR, KILLED, SUCCESS, TIMEOUT
from capsule_run._base.value import Value, replace
from capsule_run.contexts import protocol
from capsule_run.contexts.protocol import STDOUT, BrokenMessageError, Displayed, Done, Ended, Ready, Written
from capsule_run.model.cell import CellError, CellResult, RichResult
from capsule_run.model.result_parts import Output
from capsule_run.result.verdict import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from capsule_run._base.statuses import Status

START_MS = 30_000  # what an interpreter may take to start
MOST_RESULTS, MOST_RESULT_BYTES = 1_000, 64 << 20  # kept of one cell
_LOST = "all variables are lost, and the next cell starts a new interpreter"
_ERROR_FIELDS = {"name", "message", "traceback", "line", "column", "hint"}


class CellRequest(Value):
    """What a caller asks for: code, its limits, and the functions that get what it writes as it comes."""

    code: str
    timeout_ms: int
    """The limit of wall-clock time, from the moment that the interpreter waits for the cell."""
    grace_ms: int
    """How long an interrupted cell may go on before its interpreter is killed."""
    max_output_bytes: int
    """Bytes kept of each stream; what comes in addition is counted."""
    memory_bytes: int | None
    """What the cell may allocate in addition; None without a limit of its own."""
    on_stdout: Callable[[str], object] | None
    on_stderr: Callable[[str], object] | None
    on_result: Callable[[RichResult], object] | None


class _Stream:
    """One stream of a cell: the first bytes, and how many there were."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.total = 0
        self.decoder = getincrementaldecoder("utf-8")("replace")

    def output(self) -> Output:
        return Output(data=bytes(self.data), total_bytes=self.total, truncated=self.total > len(self.data))


class _Cell:
    """What is known of the cell that runs."""

    def __init__(self, request: CellRequest, number: int, now: float) -> None:
        self.request = request
        self.number = number
        self.began = now
        self.streams = {STDOUT: _Stream(), protocol.STDERR: _Stream()}
        self.results: list[RichResult] = []
        self.result_bytes = 0
        self.results_omitted = 0
        self.interrupted_for: str | None = None  # `timeout` or `cancelled`


class Conversation:
    """Everything between the start of an interpreter and its end. Times are seconds of one monotonic clock."""

    def __init__(self, program: bytes, *, follows_a_loss: bool, now: float) -> None:
        self.outgoing = bytearray(program)
        """What is to be written to the interpreter's standard input; the caller takes away what it has written."""
        self.deadline: float | None = now + START_MS / 1000
        """When `expire` has to be called."""
        self.must_kill = False
        """Whether the process has to be killed; then `lost` has to be called."""
        self.version = ""
        self.gone = False
        """Whether the interpreter ended, or cannot be trusted to answer."""
        self.result: CellResult | None = None
        """The result of the cell, once it has ended."""
        self._decoder = protocol.Decoder()
        self.is_ready = False
        """Whether the interpreter has started."""
        self._count = 0
        self._cell: _Cell | None = None
        self._end: Ended | None = None
        self._broken = ""
        self._follows_a_loss = follows_a_loss

    @property
    def is_running(self) -> bool:
        """Whether a cell has begun and not ended."""
        return self._cell is not None

    def begin(self, request: CellRequest, now: float) -> None:
        """Run a cell as soon as the interpreter waits for one."""
        assert self._cell is None
        assert not self.gone
        self._count += 1
        self.result = None
        self._cell = _Cell(request, self._count, now)
        if self.is_ready:
            self._send(now)

    def _send(self, now: float) -> None:
        assert self._cell is not None
        request = self._cell.request
        self.outgoing += protocol.encode_request(
            request.code, number=self._cell.number, memory_bytes=request.memory_bytes
        )
        self.deadline = now + request.timeout_ms / 1000

    def interrupt(self, now: float, *, why: str = "cancelled") -> None:
        """Interrupt the running cell; it has its grace to end. No effect between cells."""
        if self._cell is None or self._cell.interrupted_for is not None:
            return
        self._cell.interrupted_for = why
        if not self.is_ready:
            self.must_kill = True
            return
        self.outgoing += protocol.encode_interrupt()
        self.deadline = now + self._cell.request.grace_ms / 1000

    def forget_functions(self) -> None:
        """Call no function of the caller for the rest of the cell: it does not wait any longer."""
        if self._cell is not None:
            self._cell.request = replace(self._cell.request, on_stdout=None, on_stderr=None, on_result=None)

    def expire(self, now: float) -> None:
        """Act on the deadline, if it has come: first an interrupt, then the end of the interpreter."""
        if self.deadline is None or now < self.deadline:
            return
        if self.is_ready and self._cell is not None and self._cell.interrupted_for is None:
            self.interrupt(now, why="timeout")
        else:
            self.must_kill = True

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the interpreter. Calls the functions of the cell."""
        try:
            for event in self._decoder.feed(data):
                self._take(event, now)
        except BrokenMessageError as error:
            self._broken = str(error)
            self.must_kill = True

    def _take(self, event: Written | Ready | Displayed | Done | Ended, now: float) -> None:
        cell = self._cell
        if isinstance(event, Ended):
            self._end = event
            self.must_kill = True  # the relay waits: what the code left running ends with it
        elif isinstance(event, Ready):
            self._take_ready(event, now)
        elif cell is None:
            # Nobody waits. What is left running writes while no cell runs only until the pipes are full.
            if isinstance(event, Done):
                raise BrokenMessageError("the end of a cell that does not run")
        elif isinstance(event, Written):
            self._take_output(cell, event)
        elif isinstance(event, Displayed):
            self._take_result(cell, event)
        else:
            self._take_done(cell, event, now)

    def _take_ready(self, event: Ready, now: float) -> None:
        if self.is_ready:
            raise BrokenMessageError("a second start")
        self.is_ready = True
        self.version = event.version
        self.deadline = None
        if self._cell is not None:
            self._send(now)

    def _take_output(self, cell: _Cell, event: Written) -> None:
        stream, request = cell.streams[event.stream], cell.request
        stream.total += len(event.data)
        stream.data += event.data[: max(0, request.max_output_bytes - len(stream.data))]
        function = request.on_stdout if event.stream == STDOUT else request.on_stderr
        text = stream.decoder.decode(event.data) if function is not None else ""
        if function is not None and text:
            function(text)

    def _take_result(self, cell: _Cell, event: Displayed) -> None:
        cell.result_bytes += sum(map(len, event.data.values()))
        if len(cell.results) >= MOST_RESULTS or cell.result_bytes > MOST_RESULT_BYTES:
            cell.results_omitted += 1
            return
        result = RichResult(data=event.data, omitted=event.omitted, is_main_result=event.is_main)
        cell.results.append(result)
        if cell.request.on_result is not None:
            cell.request.on_result(result)

    def _take_done(self, cell: _Cell, event: Done, now: float) -> None:
        if event.number != cell.number or event.error.keys() - _ERROR_FIELDS:
            raise BrokenMessageError("the end of another cell")
        error = self._exception(event.error) if event.error else None
        status: Status = SUCCESS if error is None else ERROR
        interrupted = error is not None and error.name in ("KeyboardInterrupt", "Interrupted")
        if cell.interrupted_for == "timeout":
            status, error = TIMEOUT, _timed_out(cell.request, error)
        elif cell.interrupted_for == "cancelled" and error is not None and interrupted:
            message = "interrupted by the caller; variables are kept"
            status, error = KILLED, replace(error, cause="cancelled", message=message)
        self._finish(status, error, now)

    def _exception(self, fields: Mapping[str, str]) -> CellError:
        name, hint = fields.get("name", "Exception"), fields.get("hint", "")
        if self._follows_a_loss and not hint and name in ("NameError", "ReferenceError"):
            hint = "the interpreter was restarted, and the variables of earlier cells are lost: run the code that sets them again"
        return CellError(
            cause="exception",
            name=name,
            message=fields.get("message", ""),
            traceback=fields.get("traceback", ""),
            line=_place(fields, "line"),
            column=_place(fields, "column"),
            hint=hint,
        )

    def lost(self, error: CellError | None, status: Status, now: float) -> None:
        """Note that the process has ended. `error` and `status` are those of its own result, if that has a reason."""
        self.gone = True
        self.deadline = None
        cell = self._cell
        if cell is None:
            return
        if cell.interrupted_for == "timeout":
            limit, grace = cell.request.timeout_ms, cell.request.grace_ms
            message = f"timed out after {limit} ms and did not end within {grace} ms of its interrupt; {_LOST}"
            status, error = TIMEOUT, CellError(cause="timeout", name="TimeLimit", message=message, hint=_TIME_HINT)
        elif cell.interrupted_for == "cancelled":
            message = f"interrupted by the caller, and ended with its interpreter; {_LOST}"
            status, error = KILLED, CellError(cause="cancelled", name="Cancelled", message=message)
        elif self._broken:
            message = f"the interpreter sent what it never sends by itself ({self._broken}); {_LOST}"
            hint = "code in the cell wrote to a descriptor that is not its own"
            status, error = ERROR, CellError(cause="protocol", name="BrokenMessage", message=message, hint=hint)
        elif error is not None and self.is_ready:
            error = replace(error, message=f"{error.message}; {_LOST}")
        elif error is not None:
            error = replace(error, message=f"the interpreter did not start: {error.message}")
        else:
            status, error = ERROR, self._own_end()
        self._finish(status, error, now)

    def _own_end(self) -> CellError:
        if self._end is None and not self.is_ready:
            return CellError(cause="ended", name="InterpreterNotStarted", message="the interpreter did not start")
        if self._end is None:
            return CellError(cause="ended", name="InterpreterEnded", message=f"the interpreter was ended; {_LOST}")
        number = self._end.number
        if self._end.how == "exit":
            message = f"the interpreter exited with code {number} during the cell; {_LOST}"
            return CellError(cause="exit", name="InterpreterExited", message=message)
        name = SIGNALS.get(number, f"signal {number}")
        message = f"the interpreter was terminated by {name} during the cell; {_LOST}"
        return CellError(cause="signal", name="InterpreterTerminated", message=message)

    def _finish(self, status: Status, error: CellError | None, now: float) -> None:
        cell = self._cell
        assert cell is not None
        functions = ((STDOUT, cell.request.on_stdout), (protocol.STDERR, cell.request.on_stderr))
        rests = [(function, cell.streams[kind].decoder.decode(b"", final=True)) for kind, function in functions]
        self._cell = None
        self.deadline = None
        if error is None or error.name not in ("NameError", "ReferenceError"):
            self._follows_a_loss = self._follows_a_loss and error is not None
        self.result = CellResult(
            status=status,
            execution_count=cell.number,
            results=tuple(cell.results),
            stdout_stream=cell.streams[STDOUT].output(),
            stderr_stream=cell.streams[protocol.STDERR].output(),
            error=error,
            state_lost=self.gone,
            duration_ms=(now - cell.began) * 1000,
            results_omitted=cell.results_omitted,
        )
        for function, rest in rests:
            if function is not None and rest:
                function(rest)


_TIME_HINT = "raise `timeout_ms`, or reduce the work"


def _timed_out(request: CellRequest, error: CellError | None) -> CellError:
    message = f"timed out after {request.timeout_ms} ms; the cell was interrupted, and variables are kept"
    if error is None:
        return CellError(cause="timeout", name="TimeLimit", message=message, hint=_TIME_HINT)
    return replace(error, cause="timeout", message=message, hint=_TIME_HINT)


def _place(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
