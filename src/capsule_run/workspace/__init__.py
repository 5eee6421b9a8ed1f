"""Transfer files: copy-in, collect, diff, export, the disk layer.

Trusts nothing that the command left: uses descriptors, not paths.
Input files go through a pipe to init (`copy_in`), or into the upper layer on disk (`disk_layer`).
Read first: `transfer`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "collect": "files come out",
        "copy_in": "files go in",
        "diff": "changes are wanted",
        "disk_layer": "the request has an upper directory",
        "export": "files or changes are written to the host",
        "live": "the files of a living sandbox are read or written",
        "revert": "the changes of a living sandbox are undone",
        "stage": "files come out, or a line on a terminal says how many did",
        "text_diff": "a diff is wanted",
        "transfer": "files go in or come out",
    },
)
