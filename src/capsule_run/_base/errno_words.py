"""The errno values that a report carries, in words.

Rank 0. `os.strerror` has no place in pure modules, and says less. Imported by what describes a failure.
"""

from __future__ import annotations

_WORDS = {
    1: "operation not permitted", 2: "no such file or directory", 5: "input/output error", 7: "argument list too long",
    8: "exec format error", 9: "not open for it", 11: "resource temporarily unavailable", 12: "out of memory",
    13: "permission denied", 17: "file exists", 19: "no such device", 20: "not a directory", 21: "is a directory",
    22: "invalid argument", 23: "too many open files on the host", 24: "too many open files", 27: "file too large",
    28: "no space left", 30: "read-only file system", 32: "broken pipe", 36: "name too long", 38: "not in this kernel",
    40: "a symbolic link stands where none may", 95: "not supported", 104: "connection reset",
    116: "another object has taken its place", 122: "disk quota exceeded",
}  # fmt: skip
EFBIG = 27
FILE_SIZE_HINT = "raise the file size limit of this process (`ulimit -f`)"


def errno_words(errno: int) -> str:
    """What an errno means, for a message."""
    return _WORDS.get(errno, f"errno {errno}")
