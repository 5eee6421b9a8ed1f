"""System calls that Python's standard library lacks. In the static file, without ctypes, they are in packaging/static/main.c."""

from __future__ import annotations

import os
import sys

__all__ = ["openat2", "setfsgid", "setfsuid"]

if "_capsule_static" in sys.builtin_module_names:
    from _capsule_static import openat2, setfsgid, setfsuid  # type: ignore[import-not-found]
else:
    import ctypes

    SYS_OPENAT2 = 437  # the same number on every architecture

    class _OpenHow(ctypes.Structure):
        _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    _libc = ctypes.CDLL(None, use_errno=True)
    setfsuid, setfsgid = _libc.setfsuid, _libc.setfsgid

    def openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
        """Open a file (openat2(2)). Raises OSError."""
        how = _OpenHow(flags, mode, resolve)
        fd: int = _libc.syscall(SYS_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return fd
