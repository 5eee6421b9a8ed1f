"""Recognize errors that mean a shortage of resources, and not a bug.

Imported only after a failure.
"""

from __future__ import annotations

from errno import EAGAIN, EDQUOT, EFBIG, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC

from capsule_run._base.errno_words import FILE_SIZE_HINT, errno_words
from capsule_run._base.errors import CapsuleError, exhausted

_SHORT_OF = frozenset((EAGAIN, ENOMEM, ENFILE, EMFILE, EFBIG, ENOSPC, ENOBUFS, EDQUOT))


def shortage(error: OSError | ImportError | MemoryError) -> CapsuleError | None:
    """Return E6003 for an error that means a shortage on the host or in this process; None for any other error."""
    if isinstance(error, MemoryError):
        return CapsuleError("E6003", "capsule-run itself is out of memory")
    known = exhausted(error)
    if known is not None or isinstance(error, ImportError) or error.errno not in _SHORT_OF:
        return known
    return short_of(error.errno)


def short_of(errno: int) -> CapsuleError:
    """Return E6003 for the errno of a call of ours that failed for a shortage."""
    hint = FILE_SIZE_HINT if errno == EFBIG else None
    return CapsuleError("E6003", f"capsule-run itself: {errno_words(errno)}", details={"errno": errno}, hint=hint)
