"""Report an unexpected exception of the command line: one line or one JSON response, no traceback.

`_bundle.crash` imports it when an exception has reached the top, and has its own message in case this fails.
"""

from __future__ import annotations

import posix
import sys

from capsule_run._base.errors import CapsuleError, exit_status
from capsule_run._base.shortage import shortage
from capsule_run.cli import output
from capsule_run.engine.variables import TRACEBACK


def as_error(error: BaseException) -> CapsuleError:
    """Return the error of the catalogue for an unexpected exception."""
    if isinstance(error, CapsuleError):
        return error
    known = shortage(error) if isinstance(error, (OSError, ImportError, MemoryError)) else None
    return known or CapsuleError("E6007", f"unexpected internal error: {type(error).__name__}: {error}")


def _wants_traceback(words: list[str]) -> bool:
    if posix.environ.get(TRACEBACK.encode(), b"") not in (b"", b"0"):
        return True
    return any(word in ("-v", "-vv", "--verbose") for word in words)


def _print_traceback(error: BaseException) -> None:
    """Write to descriptor 2: `sys.stderr` is None if it was closed, and `print` would then write to stdout."""
    import traceback  # noqa: PLC0415  # it loads much, and is needed after a failure only

    posix.write(2, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))


def print_crash(error: BaseException) -> int:
    """Report the exception, as JSON if requested and no answer was begun; return the exit code."""
    words = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    if _wants_traceback(words):
        _print_traceback(error)
    known = as_error(error)
    structured = ("--json" in words or "--pretty" in words) and not output.progress.begun
    if structured:
        return output.print_error(known, json=True, pretty="--pretty" in words)
    output.explain(known.failure())
    return exit_status(known.failure(), None)
