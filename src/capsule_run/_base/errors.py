"""The exception that carries a code of the catalogue, and what the command line makes of a failure.

Rank 0. The catalogue itself (`codes`) is read when something has failed: most runs do without.
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


BROKEN_PIPE_EXIT = 141  # 128 + SIGPIPE: what a program has whose reader has left


class CapsuleError(Exception):
    """What went wrong, with a stable code, a message for people, a cause for machines and a hint.

    `cause` and `hint` are the catalogue's unless the place that raises knows better. `execution_id` is the one that
    a refused request carried, None when it carried none that is usable: a door puts it there.
    Message and hint are one line each, whatever they quote (`printable`); `details` are exact.
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
        if cause is None or hint is None:  # without a descriptor no module can be loaded, and this is to be told
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
        """The same as a value, for a result."""
        return Failure(code=self.code, message=self.message, cause=self.cause, details=self.details, hint=self.hint)

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own would call `CapsuleError("E1001: …")`: errors cross process pools.
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
LEAST_DESCRIPTORS = 20  # with fewer no run gets as far as its command (tests/sandbox/test_few_descriptors.py)
_USUAL_DESCRIPTORS = 64  # besides those that the caller has open itself
_CORES_OWN = 40  # descriptors of the core, besides one for each path that is shown
_OF_DLOPEN = ("Too many open files", "No file descriptors available")  # glibc, musl: an ImportError has no errno


def exhaustion(errno: int, what: str = "", *, sources: int = 0) -> CapsuleError:
    """E6003 for one of `EXHAUSTED`. `what` could not be done, for a run that shows so many paths."""
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
    """E6003 for a call, or an import, that failed because nothing was left to give; None for any other."""
    number = getattr(error, "errno", None)
    # unix(7): the descriptors in flight of a user count against the limit of each sender
    if number == ETOOMANYREFS or any(words in str(error) for words in _OF_DLOPEN):
        number = EMFILE
    return exhaustion(number) if number in EXHAUSTED else None


def exit_status(failure: Failure | None, exit_code: int | None) -> int:
    """The exit code of the command line for a result, as design section 5 has it."""
    if exit_code is not None:
        return exit_code
    if failure is None:
        return 0

    code = error_codes.entry(failure.code).exit
    return code if isinstance(code, int) else 125
