"""Create the control groups of a run, remove them after it, and sweep those of dead owners."""

from __future__ import annotations

import posix
from errno import EBUSY, ENOENT

from capsule_run.cgroup.discover import _DIRECTORY, _unswept, _write
from capsule_run.host.owner_tag import PREFIX, is_of_the_dead, own_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from capsule_run.model.policy import Group


def sweep_found() -> None:
    """Remove what dead owners left where this process makes groups, once. For when nobody waits for us."""
    while _unswept:
        sweep(_unswept.pop())


def sweep(path: str) -> list[str]:
    """Remove the groups in `path` whose owner is dead, and return their names. One of another pid namespace cannot be told."""
    removed = []
    try:
        names = [name for name in posix.listdir(path) if name.startswith(PREFIX)]
    except OSError:
        return []
    for name in names:
        if not is_of_the_dead(name):
            continue
        try:
            posix.rmdir(f"{path}/{name}")
        except OSError:  # still ending, or somebody else has swept it
            continue
        removed.append(name)
    return removed


class ControlGroups:
    """The groups of one run, with a descriptor of each one's parent. A context manager that removes what is still there."""

    def __init__(self) -> None:
        self.name = ""
        self.fds: list[int] = []
        self.removed_by_launcher = False  # the core has removed them all, and said so
        self._parents: list[int] = []

    def make(self, groups: Sequence[Group]) -> None:
        """Make the groups and write every knob. Raises OSError where the host refuses."""
        self.name = own_name() if groups else ""
        for group in groups:
            self._make(group)
        for group, parent in zip(groups, self._parents, strict=True):
            if group.gives_notice:
                self.fds.append(self._notice(parent))

    def _make(self, group: Group) -> None:
        parent = posix.open(group.parent, _DIRECTORY)
        self.fds.append(parent)
        posix.mkdir(self.name, dir_fd=parent)
        if posix.geteuid() != 0:  # a umask may keep even the owner out, but not root
            posix.chmod(self.name, 0o755, dir_fd=parent)
        self._parents.append(parent)
        for setting in group.settings:
            try:
                _write(f"{self.name}/{setting.file}", setting.text, directory=parent)
            except OSError as error:
                if not (setting.optional and error.errno == ENOENT):
                    raise

    def _notice(self, parent: int) -> int:
        """An eventfd that the kernel makes readable when the group is out of memory."""
        notice = posix.eventfd(0, posix.EFD_CLOEXEC | posix.EFD_NONBLOCK)
        try:
            control = posix.open(f"{self.name}/memory.oom_control", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=parent)
            try:
                _write(f"{self.name}/cgroup.event_control", f"{notice} {control}", directory=parent)
            finally:
                posix.close(control)
        except BaseException:
            posix.close(notice)
            raise
        return notice

    def close(self) -> None:
        """Remove what the launcher has not (it was killed), as soon as the kernel lets go, and close the descriptors."""
        for parent in () if self.removed_by_launcher else self._parents:
            for _ in range(200):
                try:
                    posix.rmdir(self.name, dir_fd=parent)
                except OSError as error:
                    if error.errno != EBUSY:
                        break
                    _wait_a_moment()
                else:
                    break
        self._parents = []
        while self.fds:
            posix.close(self.fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _wait_a_moment() -> None:
    import time  # noqa: PLC0415  # a killed sandbox ends within milliseconds, and version 1 tells nobody when

    time.sleep(0.005)
