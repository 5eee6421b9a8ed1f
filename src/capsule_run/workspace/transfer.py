"""What passes between the caller and the workspace of one run: files in before it, files and changes out behind it.

Rank 2. `runner` makes one for a run that has any of that, so that others do not pay. It owns the pipe and the
descriptors that the core hands out: they keep the workspace's files when the room is gone, and give them up when closed.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import WORKSPACE, within
from capsule_run._base.value import replace
from capsule_run.host.path_resolution import DIRECTORY_FLAGS
from capsule_run.model.policy import COPY, PRIVATE
from capsule_run.model.report import WorkspaceOutput
from capsule_run.model.request import COPY_ON_WRITE
from capsule_run.workspace import collect as workspace_collect
from capsule_run.workspace import copy_in, diff, export

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsule_run.launcher import Launcher
    from capsule_run.model.policy import Policy
    from capsule_run.model.result_parts import Change, CollectedFile, NotApplied, NotCollected
    from capsule_run.workspace.copy_in import Stream
    from capsule_run.workspace.diff import Comparison


MOST_LISTED = 1000  # changes that a result names


class Exchange:
    """The order of calls is `room_fds`, `fill`, `ready`, and `take` when the run has ended; `close` at any time."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._transfer = policy, policy.transfer
        self._stream: Stream | None = None
        self._offered: list[int] = []
        self._brought: dict[str, tuple[int, int, int]] = {}
        self._layer = -1  # that of the disk; one in memory is offered by the core
        self._lower = self._save_to = self._collect_to = -1  # directories of the host, open before anything runs
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        transfer, source = self._transfer, self._policy.workspace
        if transfer.deliveries and self._policy.upper is None:
            self._stream = copy_in.Stream()
        if transfer.needs_changes and source is not None:
            try:
                self._lower = posix.open(source.path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            except OSError as error:  # looked at a moment ago
                why = posix.strerror(error.errno or 0).lower()
                raise CapsuleError("E2004", f"cannot open the workspace `{source.path}`: {why}") from None
            seen = posix.fstat(self._lower)
            if (seen.st_dev, seen.st_ino) != (source.device, source.inode):
                raise CapsuleError("E2004", f"the workspace `{source.path}` was replaced during setup")
        if self._policy.upper is not None and transfer.needs_changes:
            layer = self._policy.upper.source
            self._layer = posix.open(f"{layer.path}/upper", DIRECTORY_FLAGS)
            seen = posix.stat("..", dir_fd=self._layer)
            if (seen.st_dev, seen.st_ino) != (layer.device, layer.inode):
                raise CapsuleError("E2004", f"the upper layer `{layer.path}` was replaced during setup")
            self._look_at_brought()
        if transfer.save_changes or transfer.collect_to:
            if transfer.save_changes:
                self._save_to = export.open_place(transfer.save_changes, "save_changes")
            if transfer.collect_to:
                self._collect_to = export.open_place(transfer.collect_to, "collect_to")

    def close(self) -> None:
        """Give the workspace up."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._offered += [fd for fd in (self._layer, self._lower, self._save_to, self._collect_to) if fd >= 0]
        self._layer = self._lower = self._save_to = self._collect_to = -1
        while self._offered:
            posix.close(self._offered.pop())

    @property
    def room_fds(self) -> tuple[int, ...]:
        """What goes along with the room's half."""
        return () if self._stream is None else (self._stream.inner,)

    def fill(self, core: Launcher) -> bytes:
        """Bring the files in, while the room is being built. Returns the report if that came, else nothing.

        Where changes are wanted, the files are looked at before the command can touch them.
        """
        if self._stream is None:
            return b""
        self._stream.send(self._transfer.deliveries, core)
        if not self._transfer.needs_changes:
            return b""
        report = self.ready(core)
        if not report and (self._offered or self._layer >= 0):  # neither: the core is gone, and without a report
            self._look_at_brought()
        return report

    @property
    def _written(self) -> int:
        """What was written to the workspace."""
        return self._layer if self._layer >= 0 else self._offered[-1]

    def _look_at_brought(self) -> None:
        for delivery in self._transfer.deliveries:  # nobody else is in the room yet: no link can be on the way
            seen = posix.stat(delivery.path, dir_fd=self._written, follow_symlinks=False)
            self._brought[delivery.path] = diff.fingerprint(seen)

    def ready(self, core: Launcher) -> bytes:
        """Wait for what the room offers. Returns the report if it came instead, else nothing."""
        if self._offered or not (self._transfer.offers_workspace or self._transfer.offers_layer):
            return b""
        message, self._offered = core.receive_ready()
        return b"" if message == b"ready" else message

    def take(self, *, by_itself: bool) -> WorkspaceOutput:
        """What the request wants of the workspace as the command has left it; then the workspace is given up.

        `by_itself`: the command came to its own end. What one that was cut short had begun is listed, and not applied.
        """
        try:
            return self._taken(by_itself=by_itself)
        finally:
            self.close()  # the kernel clears it away at the last close, which is then the core's, as it ends beside us

    def _taken(self, *, by_itself: bool) -> WorkspaceOutput:
        if not self._offered and self._layer < 0:
            return WorkspaceOutput(
                collected=(), not_collected=(), changes=None, changes_truncated=False, not_applied=()
            )
        collected, not_collected, not_saved = self._collect()
        changes: tuple[Change, ...] | None = None
        more = False
        if self._transfer.needs_changes:
            comparison = self._comparison()
            listed: list[Change] = []
            for change in self._changes(comparison):
                if len(listed) == MOST_LISTED:
                    more = True
                    break
                listed.append(change)
            changes, more = tuple(listed), more or bool(comparison.skipped)
        not_applied = [*not_saved, *(self._write_changes() if by_itself else [])]
        return WorkspaceOutput(
            collected=collected,
            not_collected=not_collected,
            changes=changes,
            changes_truncated=more,
            not_applied=tuple(not_applied),
        )

    def _collect(self) -> tuple[tuple[CollectedFile, ...], tuple[NotCollected, ...], list[NotApplied]]:
        transfer = self._transfer
        if not transfer.collect:
            return (), (), []

        limits = workspace_collect.Limits(
            total_bytes=transfer.collect_bytes,
            file_bytes=transfer.collect_file_bytes,
            settled=self._policy.workspace_kind in (PRIVATE, COPY) and self._policy.upper is None,
        )
        collected, refused = workspace_collect.collect(
            self._offered[0], transfer.collect, limits, mount_points=transfer.mount_points
        )
        if not transfer.collect_to:
            return collected, refused, []

        not_saved = export.save_files(collected, self._collect_to)
        lost = {one.path for one in not_saved}
        saved = [
            file if file.path in lost else replace(file, saved=f"{transfer.collect_to}/{file.path}")
            for file in collected
        ]
        return tuple(saved), refused, not_saved

    def _known(self) -> diff.Known:
        """What of the layer is ours: the places that the plan made in it, and all directories on the way to them."""
        start = f"{WORKSPACE}/"
        ours = [*self._transfer.mount_points, *(delivery.path for delivery in self._transfer.deliveries)]
        places = [path.rpartition("/")[0] for path in ours]
        if within(self._policy.working_directory, WORKSPACE):
            places.append(self._policy.working_directory[len(start) :])
        directories = set()
        while places:
            place = places.pop()
            if place and place not in directories:
                directories.add(place)
                places.append(place.rpartition("/")[0])
        return diff.Known(
            mount_points=self._transfer.mount_points,
            copied=self._transfer.copied if self._policy.workspace_kind == COPY else None,
            directories=frozenset(directories),
            files=self._brought,
        )

    def _comparison(self) -> diff.Comparison:
        return diff.Comparison(self._known())

    def _changes(self, comparison: Comparison) -> Iterator[Change]:
        if self._policy.workspace_kind == COPY_ON_WRITE and not posix.listdir(self._written):
            return iter(())  # nothing was written, and what is gone would be marked
        return comparison.changes(self._written, self._lower if self._lower >= 0 else None)

    def _write_changes(self) -> list[NotApplied]:
        if self._save_to < 0 and not self._transfer.applies_changes:
            return []

        refused: list[NotApplied] = []
        comparison = self._comparison()
        if self._save_to >= 0:
            refused += export.carry_over(self._changes(comparison), self._written, self._save_to, deletions=False)
        if self._transfer.applies_changes:
            refused += export.carry_over(self._changes(comparison), self._written, self._lower, deletions=True)
        return refused + export.not_looked_into(comparison)
