"""Changes that a command made in the workspace, and those that were not written to the host."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    ChangeKind = Literal["created", "modified", "deleted"]
    FileType = Literal["file", "directory", "symlink", "special"]

CREATED: Literal["created"] = "created"
MODIFIED: Literal["modified"] = "modified"
DELETED: Literal["deleted"] = "deleted"


class Change(Value):
    """One change that the command made in the workspace."""

    path: str
    """Relative to the workspace."""
    kind: ChangeKind
    """`created`, `modified` or `deleted`."""
    bytes: int
    """Its size now; 0 if it was deleted."""
    type: FileType = "file"
    """The type now, or before it was deleted."""

    def to_dict(self) -> dict[str, object]:
        """Return one member of `changes` of the JSON response."""
        fields: dict[str, object] = {"path": self.path, "kind": self.kind, "bytes": self.bytes}
        return fields if self.type == "file" else {**fields, "type": self.type}


class NotApplied(Value):
    """A change, or a collected file, that was not written to the host."""

    path: str
    """Relative to the workspace."""
    reason: str
    """Why, in one word (docs/files.md)."""
