"""What goes into and comes out of the workspace of a run, decided.

Rank 1: pure. Called by `policy.resolve`.
"""

from __future__ import annotations

from ._value import value
from .errors import CapsuleError
from .model import DEFAULT_COLLECT_BYTES
from .view import TRANSIENT, WORKSPACE, normal, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .delivery import Delivery
    from .host import Host
    from .model import Request
    from .view import BoundPath


@value
class Transfer:
    """Files in, and what of the workspace is wanted when the command has ended."""

    deliveries: tuple[Delivery, ...]
    collect: tuple[str, ...]
    collect_bytes: int
    collect_file_bytes: int
    mount_points: frozenset[str]  # in the workspace, where something else is shown

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.deliveries or self.collect)


def resolve(request: Request, host: Host, kind: str, binds: tuple[BoundPath, ...], disk_bytes: int) -> Transfer:
    """Decide, for a workspace of this kind. Raises CapsuleError E1009 for files that have no place."""
    total, each = request.resources.collect_bytes, request.resources.collect_file_bytes
    total = DEFAULT_COLLECT_BYTES if total is None else total
    start = f"{WORKSPACE}/"
    return Transfer(
        deliveries=_deliveries(host, kind, binds, disk_bytes),
        collect=request.collect,
        collect_bytes=total,
        collect_file_bytes=total if each is None else each,
        mount_points=frozenset(
            bound.destination[len(start) :] for bound in binds if bound.destination.startswith(start)
        ),
    )


def _deliveries(host: Host, kind: str, binds: tuple[BoundPath, ...], disk_bytes: int) -> tuple[Delivery, ...]:
    """The files that the request brings, if there is a place for them."""
    if not host.deliveries:
        return ()
    if kind not in TRANSIENT:
        raise CapsuleError(
            "E1009",
            f"files: nothing can be put into a workspace that is the host's own directory (`{kind}`)",
            hint="take the directory copy-on-write (mode `cow`), or put the files there yourself",
        )
    total = sum([delivery.size for delivery in host.deliveries])
    if total > disk_bytes:
        raise CapsuleError(
            "E1009",
            f"files: they are {total} bytes together, and the disk limit is {disk_bytes}",
            details={"files_bytes": total, "disk_bytes": disk_bytes},
            hint="raise `--disk` (`resources.disk_bytes`) and `--memory` (`resources.memory_bytes`)",
        )
    for bound in binds:
        if normal(bound.destination).startswith(WORKSPACE):
            place = bound.destination[len(WORKSPACE) + 1 :]
            covered = next((one.path for one in host.deliveries if within(f"/{one.path}", f"/{place}")), None)
            if covered is not None:
                raise CapsuleError("E1009", f"files: `{covered}` would be hidden by the bind at `{bound.destination}`")
    return host.deliveries
