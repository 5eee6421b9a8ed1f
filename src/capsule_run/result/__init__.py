"""What a `Result` says, from the launcher's report and record: verdict, evidence, metrics, isolation.

`report` parses, `verdict` judges, `denied_syscalls`, `metrics`, `processes` and `isolation` are its parts.
Pure. Read first: `verdict`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "denied_syscalls": "a call was refused",
        "evidence": "the command ended badly",
        "filter_hash": "the result says what was in force",
        "explaining_line": "the command ended badly",
        "failure_words": "the command ended badly",
        "hint_words": "an interface says a hint",
        "hints": "the command ended badly",
        "isolation": "the command runs",
        "metrics": "the command runs",
        "next_limit": "a limit ended the run",
        "processes": "processes are listed, or the run timed out",
        "report": "the command runs",
        "stack_hint": "the command was terminated by SIGSEGV",
        "verdict": "the command runs",
    },
)
