"""The limits to try next after a limit ended a run: `would_pass_with` and `would_pass_at_least` of `error.details`, and the hint.

A run that a limit ended would have used more: what was observed is a lower bound. So the figure is twice what was observed, and
`would_pass_at_least` is true. It is false only for a figure at which the same run is known to pass.
"""

from __future__ import annotations

from capsule_run.request.sizes import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FACTOR = 2
MIB = 1 << 20
# The option of each field, and the largest value that the field may have.
_OPTIONS = {
    "timeout_ms": ("--timeout", 86_400_000),
    "resources.memory_bytes": ("--memory", 1 << 62),
    "resources.disk_bytes": ("--disk", 1 << 62),
    "resources.max_file_bytes": ("--max-file-size", 1 << 62),
    "resources.max_output_bytes": ("--max-output", 1 << 40),
    "resources.max_pids": ("--max-pids", 4_194_304),
    "resources.cpu_time_ms": ("--cpu-time", 86_400_000),
}
FIELDS = tuple(_OPTIONS)


def whole_mib(size: int) -> int:
    """Round up to whole MiB, as a limit is written."""
    return -(-size // MIB) * MIB


def doubled(observed: int, limit: int) -> int:
    """Twice what was observed at the limit."""
    return FACTOR * max(observed, limit)


def passing(fields: Mapping[str, int], *, at_least: bool = True) -> dict[str, object]:
    """The details that name the limits to try next; empty if one of them is larger than its field may be."""
    if any(figure > _OPTIONS[field][1] for field, figure in fields.items()):
        return {}
    return {"would_pass_with": dict(fields), "would_pass_at_least": at_least}


def hint(fields: Mapping[str, int], *, at_least: bool = True, otherwise: str = "") -> str | None:
    """The hint that names the limits to try next, and what else can be done; None if there is no such limit."""
    if not passing(fields):
        return None
    words = " and ".join(
        f"`{_OPTIONS[field][0]}` (`{field}`) to {_in_words(field, figure, at_least=at_least)}"
        for field, figure in fields.items()
    )
    return f"raise {words}{otherwise}"


def _in_words(field: str, figure: int, *, at_least: bool) -> str:
    unit = f"{figure} ms" if field.endswith("_ms") else str(figure)
    return ("at least " if at_least else "") + (format_size(figure) if field.endswith("_bytes") else unit)
