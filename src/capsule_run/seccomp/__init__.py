"""Syscall profiles: rules and tables, compiled to a BPF program, and the same policy in words.

Pure. A run reads a table that `generate` has compiled; the rules and the compiler are loaded only if needed.
Read first: `filters`, then `ruleset`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "compiler": "the filter is not a shipped one",
        "explain": "a policy is printed",
        "filters": "the filter is built, while the launcher builds the room",
        "prefix": "the ledger is on",
    },
)
