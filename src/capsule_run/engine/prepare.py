"""Survey the host and resolve the policy of a request, without starting anything."""

from __future__ import annotations

from capsule_run.cgroup import discover
from capsule_run.engine import configuration, fallbacks, profile_file
from capsule_run.host import tools as host_tools
from capsule_run.host.path_resolution import SYSTEM_FILE, is_absent
from capsule_run.host.survey import survey
from capsule_run.model.host import NONE
from capsule_run.plan import describe
from capsule_run.plan import summary as plan_summary
from capsule_run.plan.room import compile_plan
from capsule_run.policy.resolve import resolve
from capsule_run.workspace import disk_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.host import Host, Identity
    from capsule_run.model.optional import ToolMounts, Upper
    from capsule_run.model.policy import Policy
    from capsule_run.model.request import Request


def prepare(
    request: Request,
    *,
    identity: Identity | None = None,
    streams_stdin: bool = False,
    upper: Upper | None = None,
    defer_cgroups: bool = False,
) -> tuple[Host, Policy]:
    """Return the facts about this host and the policy of a request.

    :param defer_cgroups: leave out cgroups; `policy.resolve.with_cgroups` adds them later.
    :raises CapsuleError: this host cannot meet the request.
    """
    if upper is None and request.isolation.workspace_upper is not None:
        upper = disk_layer.upper_facts(request.isolation.workspace_upper)
    tools: tuple[ToolMounts, ...] = ()
    if request.isolation.tools:
        tools = host_tools.of_request(request)
    host, recipe = survey(request, identity=identity, unsupported=fallbacks.unsupported, tools=tools, upper=upper), None
    if request.profile is not None:
        recipe = profile_file.load(request.profile)
    offered = NONE if defer_cgroups else discover.cgroups_for(request, host)
    return host, resolve(request, host, cgroups=offered, streams_stdin=streams_stdin, recipe=recipe)


def dry_run(request: Request) -> tuple[list[str], list[str]]:
    """Return the policy in about ten lines, and the plan in words, a line for each step. Starts nothing. Raises CapsuleError."""
    if not is_absent(SYSTEM_FILE):
        request = configuration.bounded(request)
    policy = prepare(request)[1]
    return plan_summary.summary(policy), describe.lines(compile_plan(policy))
