"""Choose the line of a failed command's output that explains its end, or none.

The last line of stderr is often no explanation: a warning, a stack frame, a note on where to read more. And test runners
report on stdout. The lines are the program's: a choice is a guess, for a message, and proves nothing.
"""

from __future__ import annotations

LINE_CHARACTERS = 500
LAST_LINES = 200
_TAIL_BYTES = 16 << 10
_REPORT_LINES = 40  # in which a test runner's summary stands
_SHOWN_CHARACTERS = 300

_ERROR_WORDS = (
    "error", "exception", "fatal", "fail", "panic", "cannot", "can't", "could not", "couldn't", "unable to", "not found",
    "no such", "denied", "not permitted", "refused", "abort", "killed", "segmentation fault", "undefined", "unknown",
    "invalid", "illegal", "missing", "usage:", "unrecognized", "out of memory", "too many", "terminate called",
    "no module named", "unreachable", "no space", "read-only", "not enough", "not a ", "does not exist", "exhausted",
    "terminating", "traceback",
)  # fmt: skip
_WARNING_WORDS = ("warn", "deprecat", "notice")
# Beginnings of lines that explain nothing.
_NOISE = (
    "note:", "help:", "hint:", "info:", "info ", "[info", "debug", "[debug", "[notice]", "npm notice",
    "npm error a complete log", "npm err! a complete log", "npm error if you are behind", "npm error network in most",
    "npm error network if you", "npm error network this is", "}", "{", "node.js v", "- ", "====", "----", "___", "for more",
    "see also", "see https", "see http", "run `", "re-run", "+ ", "emitted 'error'", "require stack", "goroutine ",
    "created by", "please make sure", "and the repository", "during handling of the above", "the above exception",
    "<---", "stack backtrace", "runtime stack", "^", "|", "...",
)  # fmt: skip
# Beginnings of lines that only report that something before them failed.
_WEAK = (
    "make: ***", "make[", "ninja: build stopped", "collect2: error", "exit status", "error: could not compile",
    "begin failed", "fatal: could not read from remote", "rsync error: error in", "compilation terminated", "aborted",
    "error: failed to push", "error: process didn't exit successfully", "caused by:", "npm error", "npm err!", "failed (",
)  # fmt: skip


def lines_of(output: bytes) -> list[str]:
    """The last lines of a stream, without colours, each cut to LINE_CHARACTERS."""
    text = output[-_TAIL_BYTES:].decode("utf-8", "replace")
    if "\x1b[" in text:
        first, *rest = text.split("\x1b[")
        text = first + "".join(_after_sequence(part) for part in rest)
    return [line.rstrip()[:LINE_CHARACTERS] for line in text.splitlines()[-LAST_LINES:]]


def _after_sequence(part: str) -> str:
    """The text after the parameters and the letter of an escape sequence (ECMA-48)."""
    return part.lstrip("0123456789;:<=>?")[1:]


def cause_of(lines: list[str]) -> int:
    """The number of the line that explains the end; -1 if none does."""
    weak = plain = -1
    exception = _exception_of_last_traceback(lines)
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        kind = "error" if number == exception else _kind(line)
        if kind == "error":
            return number
        if kind == "weak" and weak < 0:
            weak = number
        if kind == "plain" and plain < 0:
            plain = number
        if line.startswith("Traceback (most recent call last):") and exception > number:
            return exception
    return weak if weak >= 0 else plain


def _exception_of_last_traceback(lines: list[str]) -> int:
    """The number of the line of a Python exception that ended the program, after its frames; -1 for none."""
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("Traceback (most recent call last):"):
            return next(
                (after for after in range(number + 1, len(lines)) if lines[after][:1].strip()), -1
            )  # frames are indented
    return -1


def _kind(line: str) -> str:
    lower = line.lower()
    if not line or line[0].isspace() or lower.startswith(_NOISE):
        return "noise"
    error = _first(lower, _ERROR_WORDS)
    warning = _first(lower, _WARNING_WORDS)
    if warning >= 0 and (error < 0 or warning < error):
        return "noise"
    if lower.startswith(_WEAK):
        return "weak"
    return "error" if error >= 0 else "plain"


def _first(text: str, words: tuple[str, ...]) -> int:
    places = [place for place in map(text.find, words) if place >= 0]
    return min(places, default=-1)


def report_of(lines: list[str]) -> str:
    """The summary of a test runner among the last lines of stdout; empty if there is none."""
    for line in reversed(lines[-_REPORT_LINES:]):
        words = line.strip().strip("=").strip()
        if _is_report(words):
            return words[:_SHOWN_CHARACTERS]
    return ""


def _is_report(words: str) -> bool:
    if words.startswith(
        ("test result: FAILED", "FAIL\t", "--- FAIL: ", "not ok ", "[ERROR] Tests run:", "The following tests FAILED")
    ):
        return True
    if words.startswith(("Tests: ", "Tests  ", "# fail ")):  # Jest, PHPUnit, Vitest, TAP of Node
        return "fail" in words.lower() and not words.endswith("fail 0")
    if not words[:1].isdigit():
        return False
    if " in " in words and (" failed" in words or " error" in words):  # pytest: 1 failed, 2 passed in 0.12s
        return words.rpartition(" in ")[2][:1].isdigit()
    # Mocha, RSpec, CTest
    return (
        words.endswith(" failing")
        or (" examples, " in words and " failure" in words)
        or " tests failed out of " in words
    )


def quoted(stderr: bytes, stdout: bytes) -> str:
    """The line for a message: a test runner's summary on stdout, else the line of stderr that explains the end, or none."""
    report = report_of(lines_of(stdout)) if stdout else ""
    if report or not stderr:
        return report
    lines = lines_of(stderr)
    number = cause_of(lines)
    return lines[number].strip()[:_SHOWN_CHARACTERS] if number >= 0 else ""
