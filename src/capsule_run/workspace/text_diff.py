"""Write what a command changed in its workspace as a unified diff, as `git diff` does and `git apply` reads.

Reads through two descriptors, of the layer that was written to and of the directory below it, and follows no link. Time and
size are bounded, since both contents may be chosen by the command. What the sandbox hid as a secret is not read.
"""

from __future__ import annotations

import posix
from _stat import S_IFLNK, S_IFMT, S_IFREG, S_IXUSR

from capsule_run._base.lexical_paths import within
from capsule_run._base.value import Value
from capsule_run.host.path_resolution import READ_FLAGS
from capsule_run.host.tree_walk import TreeCursor, open_parent
from capsule_run.model.changes import CREATED, DELETED
from capsule_run.workspace.line_diff import Budget, hunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from capsule_run.model.changes import Change

MAX_BYTES = 1 << 20  # of the diff
MAX_FILE_BYTES = 1 << 18  # of one file; a larger one is named only
MAX_STEPS = 2_000_000  # of the comparison of all files, about a second
MAX_FILES = 1000  # of a deleted directory
_LINK, _PROGRAM, _PLAIN = "120000", "100755", "100644"


class TextDiff(Value):
    """The diff of a run. `truncated`: it does not show all changes."""

    text: str
    truncated: bool


class _Content(Value):
    """A file or a link on one side: its mode as git writes it, and its content, None if that is not shown."""

    mode: str
    content: bytes | None


class _NotShown(Exception):  # noqa: N818  # not an error
    """Raised for what is not shown. `args[0]` says why."""


def text_diff(changes: Iterable[Change], layer: int, lower: int | None, *, hidden: Iterable[str]) -> TextDiff:
    """Return the diff of the changes.

    :param layer: the open directory that was written to.
    :param lower: the open directory below it, None if there is none.
    :param hidden: paths below it that the sandbox did not show.
    """
    writer = _Writer(layer, lower, tuple(hidden))
    for change in changes:
        for part in writer.parts(change):
            if writer.is_full(part):
                return writer.finished(truncated=True)
    return writer.finished(truncated=False)


class _Writer:
    def __init__(self, layer: int, lower: int | None, hidden: tuple[str, ...]) -> None:
        self._layer, self._lower, self._hidden = layer, lower, hidden
        self._parts: list[str] = []
        self._left = MAX_BYTES
        self._budget = Budget(MAX_STEPS)

    def is_full(self, part: str) -> bool:
        """Add the diff of one file; return True and leave it out if there is no more room."""
        self._left -= len(part.encode("utf-8", "surrogateescape"))
        if self._left < 0:
            return True
        self._parts.append(part)
        return False

    def finished(self, *, truncated: bool) -> TextDiff:
        return TextDiff(text="".join(self._parts), truncated=truncated)

    def parts(self, change: Change) -> Iterator[str]:
        """Yield the diff of each file of a change."""
        if change.type != "directory":
            yield self._file(change.path, existed=change.kind != CREATED, exists=change.kind != DELETED)
        elif change.kind == DELETED and self._lower is not None:
            for path in _files_in(self._lower, change.path):
                yield self._file(path, existed=True, exists=False)

    def _before(self, path: str) -> _Content:
        if any(within(path, place) for place in self._hidden):
            raise _NotShown("hidden from the command")
        return _read(self._lower, path)

    def _file(self, path: str, *, existed: bool, exists: bool) -> str:
        old, new = _quoted(f"a/{path}"), _quoted(f"b/{path}")
        try:
            before = self._before(path) if existed else None
            after = _read(self._layer, path) if exists else None
        except _NotShown as why:
            return f"not shown: {new} ({why.args[0]})\n"
        if before == after:
            return ""
        head = f"diff --git {old} {new}\n{_modes(before, after)}"
        contents = [side.content if side else b"" for side in (before, after)]
        if contents[0] == contents[1]:
            return head
        names = [name if side else "/dev/null" for name, side in ((old, before), (new, after))]
        if None in contents or not all(_is_text(content) for content in contents):
            return f"{head}Binary files {names[0]} and {names[1]} differ\n"
        lines = [content.splitlines(keepends=True) if content else [] for content in contents]
        lines = [_joined(part) for part in lines]
        body = b"".join(hunks(lines[0], lines[1], self._budget)).decode()
        return f"{head}--- {names[0]}\n+++ {names[1]}\n{body}"


def _joined(lines: list[bytes]) -> list[bytes]:
    """Return lines that end with a newline alone: `bytes.splitlines` also splits at a carriage return."""
    joined: list[bytes] = []
    for line in lines:
        if joined and not joined[-1].endswith(b"\n"):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def _is_text(content: bytes | None) -> bool:
    if content is None or b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _modes(before: _Content | None, after: _Content | None) -> str:
    if before is None:
        return f"new file mode {after.mode}\n" if after else ""
    if after is None:
        return f"deleted file mode {before.mode}\n"
    return f"old mode {before.mode}\nnew mode {after.mode}\n" if before.mode != after.mode else ""


def _quoted(path: str) -> str:
    """Return a path as git writes it: in C quotes if it has control characters, quotes, or bytes that are not UTF-8."""
    if path.isprintable() and '"' not in path and "\\" not in path:
        return path
    octal = [
        f"\\{byte:03o}" if byte < 32 or byte > 126 else f"\\{chr(byte)}" if chr(byte) in '"\\' else chr(byte)
        for byte in path.encode("utf-8", "surrogateescape")
    ]
    return '"' + "".join(octal) + '"'


def _read(root: int | None, path: str) -> _Content:
    """Read a file or a link beneath an open directory. Raises _NotShown."""
    if root is None:
        raise _NotShown("there is no directory below the workspace")
    at = -1
    try:
        at, name = open_parent(root, path)
        kind = posix.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        if S_IFMT(kind) == S_IFLNK:
            return _Content(mode=_LINK, content=posix.readlink(name, dir_fd=at).encode("utf-8", "surrogateescape"))
        if S_IFMT(kind) != S_IFREG:
            raise _NotShown("special file")
        return _plain(name, at)
    except OSError as error:
        raise _NotShown(posix.strerror(error.errno or 0).lower()) from None
    finally:
        if at >= 0:
            posix.close(at)


def _plain(name: str, directory: int) -> _Content:
    fd = posix.open(name, READ_FLAGS, dir_fd=directory)
    try:
        seen = posix.fstat(fd)
        mode = _PROGRAM if seen.st_mode & S_IXUSR else _PLAIN
        content = b""
        while len(content) <= MAX_FILE_BYTES and (part := posix.read(fd, MAX_FILE_BYTES + 1 - len(content))):
            content += part
        return _Content(mode=mode, content=content if len(content) <= MAX_FILE_BYTES else None)
    finally:
        posix.close(fd)


def _files_in(root: int, path: str) -> Iterator[str]:
    """Yield the files and links in a directory beneath an open one, at most MAX_FILES."""
    left = MAX_FILES
    try:
        with TreeCursor(root) as place:
            for name in path.split("/"):
                place.enter(name)
            prefixes, waiting = [path], [sorted(posix.listdir(place.fd), reverse=True)]
            while waiting and left:
                if not waiting[-1]:
                    waiting.pop()
                    prefixes.pop()
                    if waiting:
                        place.leave()
                    continue
                name = waiting[-1].pop()
                inner = f"{prefixes[-1]}/{name}"
                try:
                    place.enter(name)
                except OSError:  # no directory, or one that cannot be read
                    left -= 1
                    yield inner
                    continue
                prefixes.append(inner)
                waiting.append(sorted(posix.listdir(place.fd), reverse=True))
    except OSError:  # a directory was moved meanwhile
        return
