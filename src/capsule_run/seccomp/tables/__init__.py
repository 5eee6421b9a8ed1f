"""Tables: rules and profiles written by hand, syscall numbers, and compiled filters written by `seccomp.generate`."""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "rules": "rules are printed",
        "syscalls_aarch64": "calls are named, on aarch64",
        "syscalls_x86_64": "calls are named, on x86_64",
    },
)
