"""Words for the errno values in a report.

Pure modules may not call `os.strerror`, and these words are more specific. Imported only after a failure.
"""

from __future__ import annotations

import errno

_WORDS = {
    errno.EPERM: "operation not permitted",
    errno.ENOENT: "no such file or directory",
    errno.EIO: "input/output error",
    errno.E2BIG: "argument list too long",
    errno.ENOEXEC: "exec format error",
    errno.EBADF: "not open for it",
    errno.EAGAIN: "resource temporarily unavailable",
    errno.ENOMEM: "out of memory",
    errno.EACCES: "permission denied",
    errno.EEXIST: "file exists",
    errno.ENODEV: "no such device",
    errno.ENOTDIR: "not a directory",
    errno.EISDIR: "is a directory",
    errno.EINVAL: "invalid argument",
    errno.ENFILE: "too many open files on the host",
    errno.EMFILE: "too many open files",
    errno.EFBIG: "file too large",
    errno.ENOSPC: "no space left",
    errno.EROFS: "read-only file system",
    errno.EPIPE: "broken pipe",
    errno.ENAMETOOLONG: "name too long",
    errno.ENOSYS: "not in this kernel",
    errno.ELOOP: "a symbolic link stands where none may",
    errno.EOPNOTSUPP: "not supported",
    errno.ECONNRESET: "connection reset",
    errno.ESTALE: "another object has taken its place",
    errno.EDQUOT: "disk quota exceeded",
}
EFBIG = errno.EFBIG
FILE_SIZE_HINT = "raise the file size limit of this process (`ulimit -f`)"


def errno_words(number: int) -> str:
    """Return the words for an errno value, for a message."""
    return _WORDS.get(number, f"errno {number}")
