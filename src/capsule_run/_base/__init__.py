"""The ground for all packages: values, errors and their codes, strict JSON, lexical paths.

Imports nothing of the other packages and never touches the system. Read first: `value`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "errno_words": "a step failed",
        "error_codes": "an error is made",
        "printable": "an error is made",
        "shortage": "something failed",
        "strict_json": "JSON is read or written, or a message quotes",
    },
)
