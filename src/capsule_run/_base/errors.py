"""The exception with a stable error code, the same as a value, and exit codes of the command line.

The catalogue of codes (`error_codes`) is imported only after a failure.
"""

from __future__ import annotations

from errno import EMFILE, ENFILE, ENOMEM, ETOOMANYREFS

from capsule_run._base import error_codes
from capsule_run._base import printable as base_printable
from capsule_run._base.statuses import CATEGORIES
from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Failure(Value):
    """Why a run did not end cleanly."""

    code: str
    """A code of the catalogue, such as `E4001` (docs/errors.md)."""
    message: str
    """What happened, in one sentence."""
    cause: str
    """What happened, in one word for programs, such as `memory`."""
    details: Mapping[str, object]
    """The evidence: the limit, what was observed, the counter that proves it."""
    hint: str
    """What to do about it; empty if there is nothing to do that the message does not say."""

    def to_dict(self) -> dict[str, object]:
        """The `error` object of the JSON response."""
        fields: dict[str, object] = {
            "code": self.code,
            "category": CATEGORIES[self.code[:2]],
            "message": self.message,
            "cause": self.cause,
            "details": dict(self.details),
        }
        return {**fields, "hint": self.hint} if self.hint else fields


BROKEN_PIPE_EXIT = 141  # 128 + SIGPIPE: the exit code of a program whose reader has closed the pipe


class CapsuleError(Exception):
    """An error with a stable code, a message for people, a cause for programs and a hint.

    `cause` and `hint` default to those of the catalogue. `execution_id` is the id of the invalid request, None if it has no
    valid one; the interface that received the request sets it. Message and hint are one line each, whatever they quote
    (`printable`); `details` are exact.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        cause: str | None = None,
        details: Mapping[str, object] | None = None,
        hint: str | None = None,
    ) -> None:
        if (
            cause is None or hint is None
        ):  # `exhaustion` gives both: without a descriptor the catalogue cannot be imported
            line = error_codes.entry(code)
            cause = line.cause if cause is None else cause
            hint = line.hint if hint is None else _printable(hint)
        self.code = code
        self.message = _printable(message)
        super().__init__(f"{code}: {self.message}")
        self.cause = cause
        self.details: dict[str, object] = dict(details or {})
        self.hint = hint
        self.execution_id: str | None = None
        if self.hint:
            self.add_note(f"hint: {self.hint}")

    def failure(self) -> Failure:
        """Return the error as a value, for a result."""
        return Failure(code=self.code, message=self.message, cause=self.cause, details=self.details, hint=self.hint)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process pools, and Exception.__reduce__ would call `CapsuleError("E1001: …")`.
        given = (self.code, self.message, self.cause, self.details, self.hint)
        return _unpickled, given, {"execution_id": self.execution_id}


def _unpickled(code: str, message: str, cause: str, details: dict[str, object], hint: str) -> CapsuleError:
    return CapsuleError(code, message, cause=cause, details=details, hint=hint)


def _printable(text: str) -> str:
    if text.isprintable() and len(text) < 1 << 10:
        return text

    return base_printable.printable(text)


# The errno values of exhausted memory and descriptors. Their words are here and not in `errno_words`, since no module can be
# imported without a descriptor.
EXHAUSTED = {
    ENOMEM: "out of memory",
    ENFILE: "too many open files on the host",
    EMFILE: "too many open files",
}
MIN_DESCRIPTORS = 20  # with fewer no run gets as far as its command (tests/sandbox/test_few_descriptors.py)
_USUAL_DESCRIPTORS = 64  # in addition to those that the caller has open
_CORES_OWN = 40  # descriptors of the core, in addition to one for each path that is shown
_OF_DLOPEN = ("Too many open files", "No file descriptors available")  # glibc, musl: an ImportError has no errno


def exhaustion(errno: int, what: str = "", *, sources: int = 0) -> CapsuleError:
    """Return E6003 for one of `EXHAUSTED`.

    :param what: what could not be done. :param sources: the number of paths that the run shows, for the hint.
    """
    hint = "free some, or run fewer sandboxes at a time"
    if errno == EMFILE:
        needed = max(_USUAL_DESCRIPTORS, _CORES_OWN + sources)
        hint = (
            "raise the limit of open files of the calling process, soft and hard, "
            f"to {needed} more than it has open itself (`ulimit -n`)"
        )
    message = f"{what}: {EXHAUSTED[errno]}" if what else EXHAUSTED[errno]
    return CapsuleError("E6003", message, cause="host_exhausted", details={"errno": errno}, hint=hint)


def exhausted(error: OSError | ImportError | MemoryError) -> CapsuleError | None:
    """Return E6003 for a call or an import that failed for lack of memory or descriptors; None for any other error."""
    number = getattr(error, "errno", None)
    # unix(7): the descriptors in flight of a user count against the limit of each sender
    if number == ETOOMANYREFS or any(words in str(error) for words in _OF_DLOPEN):
        number = EMFILE
    return exhaustion(number) if number in EXHAUSTED else None


def exit_status(failure: Failure | None, exit_code: int | None) -> int:
    """Return the exit code of the command line for a result (docs/errors.md)."""
    if exit_code is not None:
        return exit_code
    if failure is None:
        return 0

    code = error_codes.entry(failure.code).exit
    return code if isinstance(code, int) else 125
