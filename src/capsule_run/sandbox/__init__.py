"""Sandboxes that live: `Sandbox` runs and starts commands in one room, whose files and processes stay between the calls.

`session` in `engine` holds the room; here are the interfaces for blocking code. May not make a process of its own but the
launchers. Read first: `box`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.sandbox.box import Sandbox
    from capsule_run.sandbox.files import Files
    from capsule_run.sandbox.pool import Pool
    from capsule_run.sandbox.process import Process
    from capsule_run.sandbox.snapshot import Snapshot

__all__ = ["Files", "Pool", "Process", "Sandbox", "Snapshot"]

__getattr__ = loaded_when_used(
    __name__,
    {
        "box": "a sandbox that lives is used",
        "files": "files of a living sandbox are read or written",
        "filler": "rooms are built ahead",
        "mapping": "many commands are run",
        "pool": "rooms are built ahead",
        "pools": "many requests are run",
        "process": "a command is started",
        "snapshot": "the files of a sandbox are kept or copied",
        "workers": "many requests are run",
    },
    public={"Sandbox": "box", "Process": "process", "Files": "files", "Pool": "pool", "Snapshot": "snapshot"},
)
