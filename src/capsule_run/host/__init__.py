"""Read facts about this host: paths, identity, tools, secrets, load.

Reads the system and never changes it. Read first: `survey`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "identity": "the caller is root",
        "input_files": "the request has files",
        "load": "the command runs",
        "secrets": "the request shares a directory",
        "snapshot": "the workspace is a copy",
        "tools": "the request names tools",
    },
)
