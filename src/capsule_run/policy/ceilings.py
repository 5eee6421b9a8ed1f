"""Hold a request to the ceilings of the system's configuration file, and a project's file to less than holds without it.

Pure; `engine.configuration` reads the files and resolves the paths. What a request does not give is lowered to the ceiling;
what it gives above one is refused (E1012) with the rule, the file and the line.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import within
from capsule_run._base.value import Value, replace
from capsule_run.model.request import (
    DEFAULT_COLLECT_BYTES,
    DEFAULT_PROFILE,
    DEFAULT_STACK_BYTES,
    KILL,
    KILL_ATTACKS,
    PROFILE_ALIASES,
    READ_WRITE,
    REFUSE,
    UNLIMITED,
)
from capsule_run.policy import limits as policy_limits
from capsule_run.request.config_file import LIMITS
from capsule_run.request.sizes import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capsule_run.model.request import Request
    from capsule_run.request.config_file import Setting

_STRICT = "strict"
_SEVERITY = (REFUSE, KILL_ATTACKS, KILL)  # of `on_violation`


class Share(Value):
    """A path of the host that a request shows, reads or writes. `path` has no links."""

    field: str
    asked: str
    path: str
    mode: str


def given(request: Request, field: str) -> object:
    """Return a field of a request by its path; None if it is not given."""
    value: object = request
    for name in field.split("."):
        value = getattr(value, name) if value is not None else None
    return value


def _with(request: Request, field: str, value: object) -> Request:
    group, dot, name = field.partition(".")
    if not dot:
        return replace(request, **{field: value})
    return replace(request, **{group: replace(getattr(request, group), **{name: value})})


def default_of(request: Request, field: str) -> object:
    """Return what holds for a limit that a request does not give; None for no limit."""
    limits = policy_limits.limits(request.resources)
    name = field.rpartition(".")[2]
    own: dict[str, object] = {
        "timeout_ms": policy_limits.timeout_ms(request),
        "stack_bytes": DEFAULT_STACK_BYTES,
        "collect_bytes": DEFAULT_COLLECT_BYTES,
    }
    return own[name] if name in own else getattr(limits, name, None)


def exceeds(value: object, most: object) -> bool:
    """Return whether a limit is above another one; None and `unlimited` are above every number."""
    if most in (None, UNLIMITED):
        return False
    if value in (None, UNLIMITED):
        return True
    assert isinstance(value, (int, float))
    assert isinstance(most, (int, float))
    return value > most


def _shown(field: str, value: object) -> str:
    if isinstance(value, int) and field.endswith(("bytes", "bps")):
        return format_size(value)
    return f"{value} ms" if field.endswith("_ms") else str(value)


def refused(field: str, why: str, rule: Setting, **details: object) -> CapsuleError:
    """Build the error of a request that passes a ceiling."""
    place = f"ceiling `{rule.key}` in {rule.place}"
    known = {"field": field, "rule": f"ceilings.{rule.key}", "file": rule.file, "line": rule.line, **details}
    return CapsuleError("E1012", f"{field}: {why} ({place})", details=known)


def bounded(request: Request, rules: Mapping[str, Setting], shares: Sequence[Share], tools: Sequence[Share]) -> Request:
    """Return the request with what it does not give lowered to the ceilings. Raises CapsuleError E1012.

    :param shares: what the request shows of the host, or lets us read or write there.
    :param tools: what its tools show.
    """
    for key in LIMITS:
        if key in rules:
            request = _limited(request, rules[key])
    if "max-collect" in rules and request.collect_file_bytes is not None:
        check_limit("collect_file_bytes", request.collect_file_bytes, rules["max-collect"])
    if "upper" in rules and request.isolation.workspace_upper is not None:
        check_limit(rules["upper"].field, request.isolation.workspace_upper.bytes, rules["upper"])
    _check_network(request, rules)
    check_shares(shares, rules.get("binds"))
    check_shares(tools, rules.get("tools"))
    _check_names(request.isolation.unmask, "isolation.unmask", rules.get("unmask"))
    return _with_requirements(_with_profile(request, rules.get("profiles")), rules.get("require"))


def _limited(request: Request, rule: Setting) -> Request:
    asked = given(request, rule.field)
    if asked is not None:
        check_limit(rule.field, asked, rule)
        return request
    if rule.field == "collect_bytes" and not request.collect:
        return request  # it is a limit of nothing
    return _with(request, rule.field, rule.value) if exceeds(default_of(request, rule.field), rule.value) else request


def check_limit(field: str, asked: object, rule: Setting) -> None:
    """Check a limit against a ceiling. Raises CapsuleError E1012."""
    if exceeds(asked, rule.value):
        most, asked_text = _shown(field, rule.value), _shown(field, asked)
        if most == asked_text:  # rounded
            most, asked_text = f"{rule.value} bytes", f"{asked} bytes"
        got = "it is not given" if asked is None else f"got {asked_text}"
        raise refused(field, f"must be at most {most} on this host, {got}", rule, maximum=rule.value)


def _check_network(request: Request, rules: Mapping[str, Setting]) -> None:
    rule = rules.get("network")
    if rule is not None and not rule.value and request.isolation.network:
        raise refused("isolation.network", "the network is not allowed on this host", rule)


def check_shares(shares: Sequence[Share], rule: Setting | None) -> None:
    """Check paths of the host against a list of allowed places. Raises CapsuleError E1012."""
    if rule is None:
        return
    assert isinstance(rule.value, tuple)
    for share in shares:
        if not allows(rule, share):
            what = "may not be written to" if share.mode == READ_WRITE else "may not be shown"
            allowed = list(rule.value)
            raise refused(share.field, f"`{share.asked}` {what} on this host", rule, path=share.path, accepted=allowed)


def allows(rule: Setting, share: Share) -> bool:
    """Return whether a list of allowed places has the share: PATH for reading, or PATH:rw."""
    assert isinstance(rule.value, tuple)
    for place in rule.value:
        path, colon, mode = place.rpartition(":")
        if not colon or mode not in ("ro", READ_WRITE):
            path, mode = place, ""
        if within(share.path, path.rstrip("/") or "/") and (share.mode != READ_WRITE or mode == READ_WRITE):
            return True
    return False


def _check_names(names: Sequence[str], field: str, rule: Setting | None) -> None:
    for name in names:
        check_name(name, field, rule)


def check_name(name: str, field: str, rule: Setting | None) -> None:
    """Check a word against a list of allowed ones. Raises CapsuleError E1012."""
    if rule is None:
        return
    assert isinstance(rule.value, tuple)
    if name not in rule.value:
        allowed = ", ".join(f"`{each}`" for each in rule.value) or "none"
        raise refused(
            field, f"`{name}` is not allowed on this host; allowed: {allowed}", rule, accepted=list(rule.value)
        )


def _with_profile(request: Request, rule: Setting | None) -> Request:
    if rule is None:
        return request
    assert isinstance(rule.value, tuple)
    allowed = tuple([PROFILE_ALIASES.get(name, name) for name in rule.value])
    if request.profile is None:
        return request if DEFAULT_PROFILE in allowed or not allowed else replace(request, profile=allowed[0])
    check_name(PROFILE_ALIASES.get(request.profile, request.profile), "profile", replace(rule, value=allowed))
    return request


def _with_requirements(request: Request, rule: Setting | None) -> Request:
    if rule is None:
        return request
    assert isinstance(rule.value, tuple)
    return replace(request, require=tuple(dict.fromkeys((*request.require, *rule.value))))


def tightened(setting: Setting, base: Request) -> Setting:
    """Return a setting of a project's file if it lowers what `base` has. Raises CapsuleError E1013 if it raises it."""
    if setting.key == "require":
        assert isinstance(setting.value, tuple)
        return replace(setting, value=tuple(dict.fromkeys((*base.require, *setting.value))))
    if setting.key == "network":
        looser = bool(setting.value) and not base.isolation.network
    elif setting.key == "profile":
        looser = setting.value not in (_STRICT, base.profile or DEFAULT_PROFILE)
    elif setting.key == "on-violation":
        before = base.on_violation or KILL_ATTACKS
        looser = _SEVERITY.index(str(setting.value)) < _SEVERITY.index(before)
    else:
        before_limit = given(base, setting.field)
        if before_limit is None:
            before_limit = default_of(base, setting.field)
        looser = exceeds(setting.value, before_limit)
    if looser:
        why = f"{setting.place}: `{setting.key}`: a project's file can only lower what holds without it"
        details = {"file": setting.file, "line": setting.line, "key": setting.key}
        hint = f"give the option `--{setting.key}`, or set it in your own file (`capsule-run config init`)"
        raise CapsuleError("E1013", why, details=details, hint=hint)
    return setting
