"""Find and read the configuration files, complete requests from them, and hold requests to the system's ceilings.

Every interface ends in `engine.execute.perform`, which calls `bounded`; those that read the user's files call `completed`
before they make the request. Imported only if there is a file, or a preset is named. docs/configuration.md.
"""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import PRIVATE_DIRECTORIES, shown_already
from capsule_run._base.value import replace
from capsule_run.engine import toml_file
from capsule_run.host import path_resolution
from capsule_run.host import tools as host_tools
from capsule_run.host.path_resolution import SYSTEM_FILE
from capsule_run.model.request import READ_ONLY, READ_WRITE
from capsule_run.policy import ceilings
from capsule_run.policy.ceilings import Share
from capsule_run.request.config_file import NAMED, PROJECT, SYSTEM, USER, Layer, read_layer
from capsule_run.request.parse import FIELDS, nested, request_from_mapping, request_to_mapping, with_defaults
from capsule_run.request.presets import known_presets, merged, own_settings, settings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from capsule_run.model.request import Request
    from capsule_run.request.config_file import Setting
    from capsule_run.request.fast_path import Options

MAX_BYTES = 1 << 16
VARIABLE = "CAPSULE_CONFIG"
_kept: dict[str, tuple[tuple[int, ...], Layer]] = {}  # by path: what the file was, and what it said


def _wrong(name: str, why: str, *, hint: str = "") -> CapsuleError:
    return CapsuleError("E1013", f"{name}: {why}", details={"file": name}, hint=hint or None)


def load(kind: str, path: str) -> Layer:
    """Read one file, or return what it said if it has not changed. Raises CapsuleError E1013."""
    try:
        seen = posix.stat(path)
    except OSError as error:
        raise _wrong(path, f"cannot read the file: {posix.strerror(error.errno or 0).lower()}") from None
    now = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    before = _kept.get(path)
    if before is not None and before[0] == now and before[1].kind == kind:
        return before[1]
    text = toml_file.text_of(path, MAX_BYTES, _wrong)
    table = toml_file.table_of(path, text, _wrong)
    layer = read_layer(kind, path, table, toml_file.lines_of(text))
    _kept[path] = (now, layer)
    return layer


def system_layer() -> Layer | None:
    """Return the system's file; None if there is none. Raises CapsuleError E1013 if it cannot be read: nothing runs then."""
    return None if path_resolution.is_absent(SYSTEM_FILE) else load(SYSTEM, SYSTEM_FILE)


def own_files() -> list[tuple[str, str]]:
    """Return the kind and path of each file of the caller's that exists, the nearest to the run first."""
    found = []
    named = path_resolution.environment(VARIABLE)
    if named:
        found.append((NAMED, named))
    project = path_resolution.project_file()
    if project:
        found.append((PROJECT, project))
    user = path_resolution.user_file()
    if user and not path_resolution.is_absent(user):
        found.append((USER, user))
    return found


def layers(*, own: bool) -> list[Layer]:
    """Return what the files say, the nearest to the run first. Raises CapsuleError E1013.

    :param own: read the caller's and the project's files too, not the system's alone.
    """
    found = [load(kind, path) for kind, path in own_files()] if own else []
    system = system_layer()
    return [*found, system] if system is not None else found


def settings(found: Sequence[Layer], asked: str | None, *, given: Mapping[str, object]) -> dict[str, Setting]:
    """Return the setting that holds for each field which `given` does not have.

    :param asked: the preset that the request, an option or an argument names.
    :raises CapsuleError: E1005 for an unknown preset, E1013.
    """
    known = known_presets(found)
    asked_settings = settings_of(asked, known, asked_by="preset") if asked is not None else []
    below: list[Setting] = []
    for layer in reversed(found):
        own = own_settings(layer, known)
        if layer.kind == PROJECT:
            own = _tightened(own, below, given=given)
        below = [*own, *below]
    return merged([*asked_settings, *below])


def _tightened(own: list[Setting], below: list[Setting], *, given: Mapping[str, object]) -> list[Setting]:
    base = request_from_mapping({"command": ["true"], **_mapping(merged(below).values())})
    used = [each for each in own if not _has(given, each.field)]
    return [ceilings.tightened(each, base) for each in used]


def _has(given: Mapping[str, object], field: str) -> bool:
    value: object = given
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def _mapping(found: Iterable[Setting]) -> dict[str, object]:
    return nested({each.field: each.value for each in found if each.field in FIELDS})


def completed(fields: Mapping[str, object], *, own: bool) -> dict[str, object]:
    """Return a request mapping without `preset`, completed from the preset that it names and from the files.

    :param own: read the caller's and the project's files too. The system's defaults are filled in by `bounded`.
    :raises CapsuleError: E1003 or E1005 for the preset, E1013 for a file.
    """
    rest = dict(fields)
    asked = rest.pop("preset", None)
    name = None if asked is None else str(FIELDS["preset"](asked, "preset"))
    found = settings(layers(own=own), name, given=rest)
    merged_fields = with_defaults(rest, _mapping(found.values()))
    assert isinstance(merged_fields, dict)
    return merged_fields


def with_files(options: Options) -> Options:
    """Complete the options of a command line with a preset and the files."""
    completed_options = replace(options, fields=completed(options.fields, own=not options.no_config))
    return completed_options if options.no_config else with_monitoring(completed_options)


def with_monitoring(options: Options) -> Options:
    """Complete the metrics file and the audit log of a command line from the files."""
    found = monitoring()
    return replace(
        options,
        metrics_file=options.metrics_file or str(found.get("metrics_file", "")),
        audit_log=options.audit_log or str(found.get("audit_log", "")),
        audit_required=options.audit_required or bool(found.get("audit_required")),
    )


def monitoring() -> dict[str, object]:
    """Return what the files say about the metrics file and the audit log, for the command line."""
    found = settings([layer for layer in layers(own=True) if layer.kind != PROJECT], None, given={})
    return {name: found[name].value for name in ("metrics_file", "audit_log", "audit_required") if name in found}


def rules() -> dict[str, Setting]:
    """Return the ceilings by their keys."""
    system = system_layer()
    return {} if system is None else {rule.key: rule for rule in system.ceilings}


def with_system(fields: Mapping[str, object], *, language: str) -> Mapping[str, object]:
    """Return the fields of a program in a language with the system's defaults: its tools decide which toolchain there is.

    Raises CapsuleError E1012 for a language that a ceiling does not allow.
    """
    ceilings.check_name(language, "language", rules().get("languages"))
    completed_fields = with_defaults(dict(fields), _defaults(system_layer()))
    assert isinstance(completed_fields, dict)
    return completed_fields


def bounded_timeout(timeout_ms: int, *, is_given: bool) -> int:
    """Return the longest timeout of a tool's calls within the ceiling. Raises CapsuleError E1012 for a given one above it."""
    rule = rules().get("timeout")
    if rule is None:
        return timeout_ms
    if is_given:
        ceilings.check_limit("max_timeout_ms", timeout_ms, rule)
    assert isinstance(rule.value, int)
    return min(timeout_ms, rule.value)


def bounded_languages(names: Sequence[str], *, are_given: bool) -> list[str]:
    """Return the languages of a tool that a ceiling allows. Raises CapsuleError E1012 for a given one that it does not."""
    rule = rules().get("languages")
    if rule is None:
        return list(names)
    assert isinstance(rule.value, tuple)
    allowed = [name for name in names if name in rule.value]
    if are_given or not allowed:
        for name in names:
            ceilings.check_name(name, "languages", rule)
    return allowed


def _defaults(system: Layer | None) -> dict[str, object]:
    return {} if system is None else _mapping(merged(own_settings(system, known_presets([system]))).values())


def audit_log() -> str:
    """Return the audit log that a ceiling requires of every run; "" for none."""
    rule = rules().get("audit-log")
    return "" if rule is None else str(rule.value)


def bounded(request: Request) -> Request:
    """Return the request with the system's defaults, held to its ceilings. Raises CapsuleError E1012, E1013."""
    system = system_layer()
    if system is None:
        return request
    defaults = _defaults(system)
    if defaults:
        mapping = with_defaults(request_to_mapping(request), defaults)
        request = request_from_mapping(mapping)
    found = {rule.key: rule for rule in system.ceilings}
    shares = list(_shares(request)) if "binds" in found else []
    tools = _tool_shares(request) if "tools" in found and request.isolation.tools else []
    return ceilings.bounded(request, found, shares, tools)


def _real(path: str) -> str:
    try:
        return path_resolution.real(path_resolution.join(posix.getcwd(), path))
    except OSError:
        return path_resolution.join("/", path)  # the survey finds the same error, and says which


def _shares(request: Request) -> Iterable[Share]:
    """Return what a request shows of the host, reads from it or writes to it, without what every sandbox shows."""
    isolation = request.isolation
    for index, path in enumerate(isolation.readonly_paths):
        if not shown_already(path):
            yield _share(f"isolation.readonly_paths[{index}]", path, READ_ONLY)
    for index, path in enumerate(isolation.writable_paths):
        if path not in PRIVATE_DIRECTORIES:
            yield _share(f"isolation.writable_paths[{index}]", path, READ_WRITE)
    for index, bind in enumerate(isolation.binds):
        yield _share(f"isolation.binds[{index}]", bind.source, bind.mode)
    if isolation.workspace is not None:
        writes = isolation.workspace.mode == READ_WRITE or request.apply_changes
        yield _share("isolation.workspace", isolation.workspace.source, READ_WRITE if writes else READ_ONLY)
    if isolation.workspace_upper is not None:
        yield _share("isolation.workspace_upper", isolation.workspace_upper.directory, READ_WRITE)
    for file in request.files:
        if file.source is not None:
            yield _share("files", file.source, READ_ONLY)
    for field, target in (("collect_to", request.collect_to), ("save_changes", request.save_changes)):
        if target is not None:
            yield _share(field, target, READ_WRITE)


def _share(field: str, asked: str, mode: str) -> Share:
    return Share(field=field, asked=asked, path=_real(asked), mode=mode)


def _tool_shares(request: Request) -> list[Share]:
    found = []
    for index, tool in enumerate(host_tools.of_request(request)):
        asked, field = request.isolation.tools[index], f"isolation.tools[{index}]"
        found += [Share(field=field, asked=asked, path=source.path, mode=READ_ONLY) for source in tool.sources]
    return found


def check_host_path(field: str, path: str, *, writes: bool) -> None:
    """Check a path of the host against the ceiling `binds`. Raises CapsuleError E1012."""
    ceilings.check_shares([_share(field, path, READ_WRITE if writes else READ_ONLY)], rules().get("binds"))


def ceiling_against_sharing(directory: str) -> Setting | None:
    """Return the ceiling that does not allow a directory as copy-on-write workspace; None if it may be shared."""
    rule = rules().get("binds")
    return None if rule is None or ceilings.allows(rule, _share("isolation.workspace", directory, READ_ONLY)) else rule
