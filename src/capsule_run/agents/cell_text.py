"""Format the result of a cell as the text that a model reads; the rules are those of `text`."""

from __future__ import annotations

from capsule_run._base.printable import printable
from capsule_run.agents.text import ADVICE, stream_lines
from capsule_run.model.result_parts import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.agents.operator import Operator
    from capsule_run.model.cell import CellError, CellResult


def cell_text(result: CellResult, limits: Operator) -> str:
    """Format a cell: status, what went wrong and what to do, its value, then its streams, fenced and counted."""
    lines = [f"status: {result.status} (cell {result.execution_count}, {result.duration_ms:.0f} ms)"]
    if result.error is not None:
        lines += _error_lines(result.error, limits)
    if result.text is not None:
        lines += text_lines("value", result.text, limits.shown_bytes)
    lines += stream_lines("stdout", result.stdout_stream, limits.shown_bytes)
    if result.stderr_stream.data:
        lines += stream_lines("stderr", result.stderr_stream, limits.shown_bytes)
    return "\n".join(lines)


def error_and_advice(error: CellError) -> tuple[str, str]:
    """Return what went wrong, without a text of the program, and what to do ("" for nothing)."""
    if error.cause == "exception":
        return "the code raised an exception", ""
    return error.message, ADVICE.get(error.cause, "")


def _error_lines(error: CellError, limits: Operator) -> list[str]:
    message, advice = error_and_advice(error)
    lines = [f"error: {printable(message)}"]
    if advice:
        lines.append(f"do: {printable(advice)}")
    # an exception's name, text and hint come from inside, too: they stand in the fence
    said = error.traceback or (f"{error.name}: {error.message}" if error.cause == "exception" else "")
    if said:
        hint = f"\nhint: {error.hint}" if error.cause == "exception" and error.hint else ""
        lines += text_lines("exception", said + hint, limits.shown_bytes)
    return lines


def text_lines(name: str, text: str, shown: int) -> list[str]:
    """Return a text of which nothing is missing as `stream_lines` returns a stream."""
    data = text.encode("utf-8", "replace")
    return stream_lines(name, Output(data=data, total_bytes=len(data), truncated=False), shown)
