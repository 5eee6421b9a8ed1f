"""Parse and validate a request from JSON, a mapping, keyword arguments or a command line.

Pure: touches neither files nor processes. Read first: `parse`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "durations": "a time is written with a unit",
        "file_fields": "the request has files, patterns or an upper directory",
        "interface_words": "a request was refused",
        "options": "the command line has options",
        "parse": "a request did not come from the command line",
    },
)
