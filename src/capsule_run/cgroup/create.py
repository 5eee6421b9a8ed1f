"""Create the cgroups of a run, remove them after it, and sweep those of dead owners."""

from __future__ import annotations

import posix
from errno import EBUSY, ENOENT

from capsule_run.cgroup.discover import _DIRECTORY, _unswept
from capsule_run.host.owner_tag import PREFIX, has_dead_owner, own_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from capsule_run.model.policy import Group


def sweep_discovered() -> None:
    """Remove the cgroups of dead owners where this process creates its own, once. Called while the command runs."""
    while _unswept:
        sweep(_unswept.pop())


def sweep(path: str) -> list[str]:
    """Remove the cgroups in `path` whose owner is dead, and return their names. Skip those of other pid namespaces."""
    removed = []
    try:
        names = [name for name in posix.listdir(path) if name.startswith(PREFIX)]
    except OSError:
        return []
    for name in names:
        if not has_dead_owner(name):
            continue
        try:
            posix.rmdir(f"{path}/{name}")
        except OSError:  # still exiting, or another process has swept it
            continue
        removed.append(name)
    return removed


def _write(path: str, text: str, *, directory: int) -> None:
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=directory)
    try:
        posix.write(fd, text.encode())
    finally:
        posix.close(fd)


class ControlGroups:
    """The cgroups of one run, with a descriptor of each one's parent. A context manager that removes those that remain."""

    def __init__(self) -> None:
        self.name = ""
        self.fds: list[int] = []
        self.removed_by_launcher = False  # the launcher has removed them all, and reported it
        self._parents: list[int] = []

    def make(self, groups: Sequence[Group]) -> None:
        """Create the cgroups and write every setting. Raises OSError if the host denies it."""
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
        if posix.geteuid() != 0:  # a umask can deny even the owner, but not root
            posix.chmod(self.name, 0o755, dir_fd=parent)
        self._parents.append(parent)
        for setting in group.settings:
            try:
                _write(f"{self.name}/{setting.file}", setting.text, directory=parent)
            except OSError as error:
                if not (setting.optional and error.errno == ENOENT):
                    raise

    def _notice(self, parent: int) -> int:
        """Return an eventfd that the kernel makes readable when the cgroup (version 1) is out of memory."""
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
        """Remove the cgroups that a killed launcher left, once the kernel allows it, and close the descriptors."""
        for parent in () if self.removed_by_launcher else self._parents:
            for _ in range(200):
                try:
                    posix.rmdir(self.name, dir_fd=parent)
                except OSError as error:
                    if error.errno != EBUSY:
                        break
                    _wait_for_exit()
                else:
                    break
        self._parents = []
        while self.fds:
            posix.close(self.fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _wait_for_exit() -> None:
    import time  # noqa: PLC0415  # a killed sandbox ends within milliseconds, and version 1 has no event for it

    time.sleep(0.005)
