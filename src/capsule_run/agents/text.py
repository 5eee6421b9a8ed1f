"""Format a result as the text that a model reads.

**Output cannot be forged.** The first line is always ours and describes the run. The program's output is fenced; the fence
is longer than any run of backticks in the output, so no output can close it, and the line above it counts the bytes. A
message that quotes a name chosen by the program stays on one line.
**Nothing about the host is shown.** A model sees no path of the host and no reason why a sandbox could not be built: those
are in the result, for the operator.
"""

from __future__ import annotations

from capsule_run._base.error_codes import entry
from capsule_run._base.printable import REORDERING, printable
from capsule_run._base.strict_json import quoted
from capsule_run.agents.operator import SHOWN_BYTES
from capsule_run.result import hint_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run._base.errors import CapsuleError, Failure
    from capsule_run.agents.operator import Operator
    from capsule_run.model.result import Result
    from capsule_run.model.result_parts import Output


_MAX_SYSCALLS_NAMED = 5

# What a model can do about each cause. It cannot raise a limit; it can only ask for more time.
ADVICE = {
    "timeout": "make it do less, or ask for more time (`timeout_seconds`)",
    "memory": "use less memory at a time; the limit cannot be raised from here",
    "processes": "start fewer processes and threads at a time; the limit cannot be raised from here",
    "output": "print less, such as a summary; the limit cannot be raised from here",
    "cpu_time": "compute less; the limit cannot be raised from here",
    "disk": "write less to files; the limit cannot be raised from here",
    "files": "write smaller files, or hold fewer of them open; the limit cannot be raised from here",
    "forbidden_syscall": "the sandbox forbids this; solve the task in another way",
    "not_found": "use a program that is installed, or do it in code",
    "not_visible": "use a program that is installed, or do it in code",
    "not_executable": "make the file executable, or call its interpreter",
    "arguments_too_long": "write the data to a file in the code, instead of passing it as an argument",
    "cancelled": "",
    "signal": "the program crashed: look for the bug, it is not a limit",
    "language": "write it in another language",
}
# Codes whose hint names options and neither a path of the host nor a text of the program.
_HINTED = ("E3003", "E3005", "E3006", "E4", "E5001")
_TELL_USER = "nothing in the code is wrong; tell the user that the sandbox could not run it"


# Output keeps tab and newline; other control characters become Unicode's symbols for them, so that no terminal interprets
# an escape sequence and no API rejects a NUL.
_REPLACEMENTS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32) if code not in (9, 10)},
    127: 0x2421,
    **dict.fromkeys(range(128, 160), 65533),
    **REORDERING,
}


def message_and_advice(error: Failure) -> tuple[str, str]:
    """Return what went wrong and what to do ("" for nothing), with no text of the host or the program in it."""
    code, line = error.code, entry(error.code)
    if code.startswith("E1"):
        return error.message, ADVICE.get(error.cause, error.hint)
    if code.startswith(("E2", "E6")):
        return line.meaning, _TELL_USER
    message, advice = error.message, ADVICE.get(error.cause, "")
    if code == "E3003":
        message = f"the program exited with code {error.details.get('exit_code')}"  # its last line is in stderr
    elif code == "E3004":
        message = f"{quoted(str(error.details.get('command')))} is not available in the sandbox"
    return message, _with_remedy(advice, error)


def _with_remedy(advice: str, error: Failure) -> str:
    """What a model can do, and the remedy that every interface names: options are the user's to set."""
    if not error.hint or not error.code.startswith(_HINTED):
        return advice
    hint = hint_words.in_fields(error.hint)
    if advice and ("raise " in hint or error.code == "E5001"):
        return f"{advice}; for the user: {hint}"
    return f"{hint}; only the user can set this"


def _error_lines(error: Failure) -> list[str]:
    message, advice = message_and_advice(error)
    return [f"error {error.code}: {printable(message)}", *([f"do: {printable(advice)}"] if advice else [])]


def _limits_reached(result: Result) -> list[str]:
    """Name the limits that were reached without ending the run: a program that fails because of one cannot know that."""
    causes = dict.fromkeys(str(hit["cause"]) for hit in result.limits_hit)
    return [f"limit reached: {cause}" + (f"; {ADVICE[cause]}" if cause in ADVICE else "") for cause in causes]


def problem_text(error: Failure) -> str:
    """Format an error alone, for an interface that sends the rest of the result separately."""
    return "\n".join(_error_lines(error))


def _denied_syscalls(result: Result) -> list[str]:
    """Name the denied system calls of a program that failed."""
    if result.error is None or not result.denied:
        return []
    calls = [f"`{call['syscall']}` ({call['errno']})" for call in result.denied[:_MAX_SYSCALLS_NAMED]]
    more = len(result.denied) - len(calls)
    return [f"denied by the sandbox: {', '.join(calls)}" + (f" and {more} more" if more else "")]


def fence_lines(text: str) -> list[str]:
    """Return the text in a Markdown code fence that is longer than any run of backticks in it."""
    longest = run = 0
    for letter in text:
        run = run + 1 if letter == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return [fence, text.removesuffix("\n"), fence]


def readable(raw: bytes) -> str:
    """Decode a program's output to text that is safe for terminals and APIs."""
    return raw.replace(b"\r\n", b"\n").decode("utf-8", "replace").translate(_REPLACEMENTS)


def _byte_count(number: int) -> str:
    return f"{number} byte" if number == 1 else f"{number} bytes"


def stream_lines(name: str, output: Output | None, shown: int) -> list[str]:
    """Return a stream fenced and counted: all of it, or its beginning and its end."""
    if output is None:
        return []
    data = output.data
    if not data:
        return [
            f"{name}: {_byte_count(output.total_bytes)}, of which none was kept"
            if output.total_bytes
            else f"{name}: empty"
        ]
    total = f"{name}: {_byte_count(output.total_bytes)}"
    if output.truncated:
        total += f", of which the first {len(data)} were kept"
    if len(data) <= shown:
        return [total, *fence_lines(readable(data))]
    half = max(shown // 2, 1)
    return [
        f"{total}; the first {half}:",
        *fence_lines(readable(data[:half])),
        f"… and the last {half} of what was kept:",
        *fence_lines(readable(data[-half:])),
    ]


def tool_text(result: Result, limits: Operator | None = None) -> str:
    """Format a result for a model: status, what went wrong and what to do, then both streams, fenced and counted."""
    shown = limits.shown_bytes if limits is not None else SHOWN_BYTES
    facts = []
    if result.exit_code is not None:
        facts.append(f"exit code {result.exit_code}")
    if result.signal is not None:
        facts.append(result.signal)
    if result.metrics is not None:
        facts.append(f"{result.metrics.wall_ms:.0f} ms")
    lines = [f"status: {result.status}" + (f" ({', '.join(facts)})" if facts else "")]
    if result.error is not None:
        lines += _error_lines(result.error)
    lines += [*_limits_reached(result), *_denied_syscalls(result)]
    lines += stream_lines("stdout", result.stdout_stream, shown)
    if result.stderr_data or result.error is not None:
        lines += stream_lines("stderr", result.stderr_stream, shown)
    return "\n".join(lines)


def refusal_text(error: CapsuleError) -> str:
    """Format the error of invalid arguments: nothing ran, why, and what to send instead."""
    return "\n".join(["status: not run", *_error_lines(error.failure())])


def not_set_up_text(error: CapsuleError) -> str:
    """Format the answer to a call with valid arguments that the operator's limits do not fit, without showing the limits."""
    return "\n".join(
        ["status: not run", f"error {error.code}: the sandbox is not set up for this call", f"do: {_TELL_USER}"]
    )
