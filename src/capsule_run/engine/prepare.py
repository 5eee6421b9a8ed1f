"""Survey the host and resolve the policy of a request; nothing is started."""

from __future__ import annotations

from ..cgroup import discover
from ..host import tools as host_tools
from ..host.survey import survey
from ..model.host import NONE
from ..plan import describe
from ..plan.room import compile_plan
from ..policy.resolve import resolve
from ..workspace import disk_layer
from . import fallbacks, profile_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model.host import Host, Identity, ToolMounts, Upper
    from ..model.policy import Policy
    from ..model.request import Request


def prepare(
    request: Request,
    *,
    identity: Identity | None = None,
    streams_stdin: bool = False,
    upper: Upper | None = None,
    defer_cgroups: bool = False,
) -> tuple[Host, Policy]:
    """What will be enforced, on this host; with `groups_later` but for control groups (`with_groups`). Raises CapsuleError."""
    if upper is None and request.isolation.workspace_upper is not None:
        upper = disk_layer.found_for(request.isolation.workspace_upper)
    tools: tuple[ToolMounts, ...] = ()
    if request.isolation.tools:
        tools = host_tools.of_request(request)
    host, recipe = survey(request, identity=identity, refused=fallbacks.unsupported, tools=tools, upper=upper), None
    if request.profile is not None:
        recipe = profile_file.load(request.profile)
    offered = NONE if defer_cgroups else discover.offered(request, host)
    return host, resolve(request, host, cgroups=offered, streams_stdin=streams_stdin, recipe=recipe)


def dry_run(request: Request) -> list[str]:
    """The plan in words, a line a step; nothing is started. Raises CapsuleError."""
    return describe.lines(compile_plan(prepare(request)[1]))
