"""The text that a model reads of a result: in words of ours that no program can write.

**Forged output.** The first line is always ours and is about the run. Whatever the program printed stands between two
fences whose length is longer than any run of backticks in it, so no output can close its fence; how many bytes it is
stands in the line above. A message that quotes a name from inside stays on its line.
**Silence about the host.** A model sees no path of the host and no reason why a sandbox could not be built: those are
in the result, for the operator.

Rank 4; used by `tooling` and the MCP server.
"""

from __future__ import annotations

from capsule_run._base.error_codes import entry
from capsule_run._base.printable import REORDERING, printable
from capsule_run._base.strict_json import quoted
from capsule_run.agents.operator import SHOWN_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run._base.errors import CapsuleError, Failure
    from capsule_run.agents.operator import Operator
    from capsule_run.model.result import Result
    from capsule_run.model.result_parts import Output


_MOST_CALLS = 5

# What a model can do about each cause. It cannot raise a limit, so no line tells it to, but for the time that it may ask for.
_ADVICE = {
    "timeout": "make it do less, or ask for more time",
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
_TELL = "nothing in the code is wrong; tell the user that the sandbox could not run it"


# In output, tab and newline stay; other controls become the pictures that Unicode has of them: no terminal obeys an escape
# sequence, and no API that refuses NUL refuses the answer.
_IN_OUTPUT: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32) if code not in (9, 10)},
    127: 0x2421,
    **dict.fromkeys(range(128, 160), 65533),
    **REORDERING,
}


def explained(error: Failure) -> tuple[str, str]:
    """What went wrong, and what to do about it ("" for nothing), without anything of the host's or of the program's words."""
    code, line = error.code, entry(error.code)
    if code.startswith("E1"):
        return error.message, _ADVICE.get(error.cause, error.hint)
    if code.startswith(("E2", "E6")):
        return line.meaning, _TELL
    message = error.message
    if code == "E3003":
        message = f"the program exited with code {error.details.get('exit_code')}"  # its last line is in stderr
    elif code == "E3004":
        message = f"{quoted(str(error.details.get('command')))} is not available in the sandbox"
    return message, _ADVICE.get(error.cause, "")


def _problem(error: Failure) -> list[str]:
    message, advice = explained(error)
    return [f"error {error.code}: {printable(message)}", *([f"do: {printable(advice)}"] if advice else [])]


def _reached(result: Result) -> list[str]:
    """Limits that were reached and did not end the run: what a program that fails for one of them cannot know."""
    causes = dict.fromkeys(str(hit["cause"]) for hit in result.limits_hit)
    return [f"limit reached: {cause}" + (f"; {_ADVICE[cause]}" if cause in _ADVICE else "") for cause in causes]


def problem_text(error: Failure) -> str:
    """What a model should read of an error alone, where the rest of a result goes elsewhere."""
    return "\n".join(_problem(error))


def _refused(result: Result) -> list[str]:
    """The system calls that a program which failed was refused: by their names alone, which are ours."""
    if result.error is None or not result.denied:
        return []
    calls = [f"`{call['syscall']}` ({call['errno']})" for call in result.denied[:_MOST_CALLS]]
    more = len(result.denied) - len(calls)
    return [f"denied by the sandbox: {', '.join(calls)}" + (f" and {more} more" if more else "")]


def _fence(text: str) -> list[str]:
    """Markdown's code fence, longer than any run of backticks within."""
    longest = run = 0
    for letter in text:
        run = run + 1 if letter == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return [fence, text.removesuffix("\n"), fence]


def readable(raw: bytes) -> str:
    """Bytes of a program as text that no terminal and no API stumbles over."""
    return raw.replace(b"\r\n", b"\n").decode("utf-8", "replace").translate(_IN_OUTPUT)


def _count(number: int) -> str:
    return f"{number} byte" if number == 1 else f"{number} bytes"


def _stream(name: str, output: Output | None, shown: int) -> list[str]:
    if output is None:
        return []
    data = output.data
    if not data:
        return [
            f"{name}: {_count(output.total_bytes)}, of which none was kept" if output.total_bytes else f"{name}: empty"
        ]
    total = f"{name}: {_count(output.total_bytes)}"
    if output.truncated:
        total += f", of which the first {len(data)} were kept"
    if len(data) <= shown:
        return [total, *_fence(readable(data))]
    half = max(shown // 2, 1)
    return [
        f"{total}; the first {half}:",
        *_fence(readable(data[:half])),
        f"… and the last {half} of what was kept:",
        *_fence(readable(data[-half:])),
    ]


def tool_text(result: Result, limits: Operator | None = None) -> str:
    """What a model should read of a result: status, what went wrong and what to do, then both streams, fenced and counted."""
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
        lines += _problem(result.error)
    lines += [*_reached(result), *_refused(result)]
    lines += _stream("stdout", result.stdout_stream, shown)
    if result.stderr_data or result.error is not None:
        lines += _stream("stderr", result.stderr_stream, shown)
    return "\n".join(lines)


def refusal_text(error: CapsuleError) -> str:
    """What a model should read when its arguments were wrong: nothing ran, why, and what to send instead."""
    return "\n".join(["status: not run", *_problem(error.failure())])


def not_set_up_text(error: CapsuleError) -> str:
    """What a model should read where its arguments were right and the operator's limits were not: no word of theirs."""
    return "\n".join(
        ["status: not run", f"error {error.code}: the sandbox is not set up for this call", f"do: {_TELL}"]
    )
