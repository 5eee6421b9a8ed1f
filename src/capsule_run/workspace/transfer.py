"""Transfer files for one run: copy input files in before the command starts, collect files and changes after it ends.

Created only for a run that needs it.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import WORKSPACE, within
from capsule_run._base.value import replace
from capsule_run.host.path_resolution import DIRECTORY_FLAGS
from capsule_run.model.policy import PRIVATE
from capsule_run.model.report import WorkspaceOutput
from capsule_run.model.request import COPY, COPY_ON_WRITE
from capsule_run.workspace import collect as workspace_collect
from capsule_run.workspace import copy_in, diff, export, revert, text_diff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from capsule_run.launcher import Launcher
    from capsule_run.model.changes import Change, NotApplied
    from capsule_run.model.policy import Policy
    from capsule_run.model.result_parts import CollectedFile, NotCollected
    from capsule_run.workspace.copy_in import Stream
    from capsule_run.workspace.diff import Comparison
    from capsule_run.workspace.live import LiveFiles
    from capsule_run.workspace.text_diff import TextDiff


MAX_LISTED = 1000  # changes in a result


class FileTransfer:
    """The transfers of one run. Call `room_fds`, `fill`, `ready`, and after the run `take`, in this order; `close` at any time.

    Owns the pipe and the descriptors of the workspace that the launcher sends: while they are open, the kernel keeps the
    workspace's files, even after the room is gone.
    """

    def __init__(self, policy: Policy, *, share: bool = False) -> None:
        """Open what is read and written on the host.

        :param share: the room is joined by others: its root is sent, too, and behind the offers the namespaces.
        """
        self._policy, self._transfer, self._share = policy, policy.transfer, share
        self.root = -1  # of a shared room; it and the namespaces belong to this object
        self.namespaces: list[int] = []
        self._stream: Stream | None = None
        self._received_fds: list[int] = []
        self._fingerprints: dict[str, tuple[int, int, int]] = {}
        self._copied: frozenset[str] | None = None  # what a copy of the workspace contained at first
        self._layer = -1  # on disk; the launcher sends one in memory
        self.expects_ready = share or self._transfer.offers_workspace or self._transfer.offers_layer
        self._lower = self._save_to = self._collect_to = -1  # directories of the host, opened before anything runs
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        transfer, source = self._transfer, self._policy.workspace
        if transfer.files and self._policy.upper is None:
            self._stream = copy_in.Stream()
        if transfer.needs_changes and source is not None:
            try:
                self._lower = posix.open(source.path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            except OSError as error:  # it existed a moment ago
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
            self._take_fingerprints()
        if transfer.save_changes or transfer.collect_to:
            if transfer.save_changes:
                self._save_to = export.open_place(transfer.save_changes, "save_changes")
            if transfer.collect_to:
                self._collect_to = export.open_place(transfer.collect_to, "collect_to")

    def close(self) -> None:
        """Close all descriptors, so that the kernel frees the workspace."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._received_fds += [fd for fd in (self._layer, self._lower, self._save_to, self._collect_to) if fd >= 0]
        self._layer = self._lower = self._save_to = self._collect_to = -1
        if self.root >= 0:
            posix.close(self.root)
            self.root = -1
        for fds in (self._received_fds, self.namespaces):
            while fds:
                posix.close(fds.pop())

    @property
    def room_fds(self) -> tuple[int, ...]:
        """The descriptors to send with the room's half of the plan."""
        return () if self._stream is None else (self._stream.inner,)

    def fill(self, launcher: Launcher) -> bytes:
        """Copy the input files in while the room is built. Return the report if it came, else b"".

        If changes are wanted, take fingerprints of the files before the command can change them.
        """
        if self._stream is None:
            return b""
        self._stream.send(self._transfer.files, launcher)
        if not self._transfer.needs_changes:
            return b""
        report = self.ready(launcher)
        if not report and (self._received_fds or self._layer >= 0):  # neither: the launcher exited without a report
            self._take_fingerprints()
        return report

    @property
    def _written_layer(self) -> int:
        """The descriptor of the layer that holds what was written to the workspace."""
        return self._layer if self._layer >= 0 else self._received_fds[-1]

    def _take_fingerprints(self) -> None:
        for file in self._transfer.files:  # the command does not run yet, so the path contains no link
            seen = posix.stat(file.path, dir_fd=self._written_layer, follow_symlinks=False)
            self._fingerprints[file.path] = diff.fingerprint(seen)

    def ready(self, launcher: Launcher) -> bytes:
        """Wait for the workspace's descriptors if they are expected. Return the report if it came instead, else b""."""
        if not self.expects_ready:
            return b""
        self.expects_ready = False
        message, fds = launcher.receive_ready()
        if message != b"ready":
            return message
        if not self._share:
            self._received_fds = fds
            return b""
        self.root = fds.pop(0)
        layers = int(self._transfer.offers_layer)
        self._received_fds, self.namespaces = fds[:layers], fds[layers:]
        self._received_fds.insert(0, posix.open(WORKSPACE[1:], DIRECTORY_FLAGS, dir_fd=self.root))
        return b""

    def take(self, *, by_itself: bool, copied: bool) -> WorkspaceOutput:
        """Collect files and changes as the request wants, then close the workspace.

        :param by_itself: whether the command exited by itself; otherwise its changes are listed and not applied.
        :param copied: whether the workspace was a copy that the sandbox made.
        """
        try:
            self._note_copied(copied=copied)
            return self._output(by_itself=by_itself)
        finally:
            self.close()  # the kernel frees it at the last close, which is then the launcher's, while it exits

    def _note_copied(self, *, copied: bool) -> None:
        """Note what the workspace contained at first, if it is a copy."""
        if self._policy.workspace_kind == COPY:
            self._copied = self._transfer.copied
        if copied and self._transfer.offers_layer and self._received_fds:
            entries = diff.copied_entries(self._written_layer)
            self._fingerprints = {**entries, **self._fingerprints}
            self._copied = frozenset(entries)

    # --- while the sandbox lives ---

    def changes_now(self) -> list[Change]:
        """Return every change in the workspace up to now."""
        self._note_copied(copied=self._lists_what_it_copied())
        return list(self._changes(self._comparison()))

    def _lists_what_it_copied(self) -> bool:
        """Return whether the room has copied the workspace: then the list of what it copied lies beside the layer."""
        return self._transfer.offers_layer and diff.lstat("../copied", self._written_layer) is not None

    def diff_now(self) -> str:
        """Return the changes up to now as a unified diff."""
        return self._text_diff(tuple(self.changes_now())).text

    def apply_now(self) -> list[NotApplied]:
        """Apply the changes up to now to the shared directory; return those that were not applied."""
        self._note_copied(copied=self._lists_what_it_copied())
        comparison = self._comparison()
        refused = export.apply_changes(self._changes(comparison), self._written_layer, self._lower, deletions=True)
        return refused + export.skipped_directories(comparison)

    def discard_now(self, files: LiveFiles) -> None:
        """Undo the changes up to now in the files of the sandbox."""
        revert.revert(self.changes_now(), files, self._lower, hidden=self._transfer.hidden)

    @property
    def has_directory(self) -> bool:
        """Whether the workspace is a view of a directory of the host, which changes can be applied to."""
        return self._lower >= 0

    def _output(self, *, by_itself: bool) -> WorkspaceOutput:
        if not self._received_fds and self._layer < 0:
            return WorkspaceOutput(
                collected=(),
                not_collected=(),
                changes=None,
                changes_truncated=False,
                diff=None,
                diff_truncated=False,
                not_applied=(),
            )
        collected, not_collected, not_saved = self._collect()
        changes: tuple[Change, ...] | None = None
        more = False
        if self._transfer.needs_changes:
            comparison = self._comparison()
            listed, more = diff.deleted_and_modified_first(comparison, self._changes(comparison), MAX_LISTED)
            changes = tuple(listed)
        diff_of_run = self._text_diff(changes) if changes is not None and self._transfer.makes_diff else None
        not_applied = [*not_saved, *(self._write_changes() if by_itself else [])]
        return WorkspaceOutput(
            collected=collected,
            not_collected=not_collected,
            changes=changes,
            changes_truncated=more,
            diff=None if diff_of_run is None else diff_of_run.text,
            diff_truncated=diff_of_run is not None and (diff_of_run.truncated or more),
            not_applied=tuple(not_applied),
        )

    def _text_diff(self, changes: tuple[Change, ...]) -> TextDiff:
        lower = self._lower if self._lower >= 0 else None
        return text_diff.text_diff(changes, self._written_layer, lower, hidden=self._transfer.hidden)

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
            self._received_fds[0], transfer.collect, limits, mount_points=transfer.mount_points
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
        """Return what of the layer is not the command's: what the plan created in it, and all parent directories."""
        start = f"{WORKSPACE}/"
        ours = [*self._transfer.mount_points, *(file.path for file in self._transfer.files)]
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
            copied=self._copied,
            directories=frozenset(directories),
            files=self._fingerprints,
        )

    def _comparison(self) -> diff.Comparison:
        return diff.Comparison(self._known())

    def _changes(self, comparison: Comparison) -> Iterator[Change]:
        if self._policy.workspace_kind == COPY_ON_WRITE and not posix.listdir(self._written_layer):
            return iter(())  # nothing was written; a deletion would be a whiteout
        return comparison.changes(self._written_layer, self._lower if self._lower >= 0 else None)

    def _write_changes(self) -> list[NotApplied]:
        if self._save_to < 0 and not self._transfer.applies_changes:
            return []

        refused: list[NotApplied] = []
        comparison = self._comparison()
        if self._save_to >= 0:
            refused += export.apply_changes(
                self._changes(comparison), self._written_layer, self._save_to, deletions=False
            )
        if self._transfer.applies_changes:
            refused += export.apply_changes(self._changes(comparison), self._written_layer, self._lower, deletions=True)
        return refused + export.skipped_directories(comparison)
