"""`capsule-run config`: show what the configuration files say and where, check them, write a first one."""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run._base.strict_json import dumps
from capsule_run.cli.help import option_lines
from capsule_run.cli.output import write_all, write_lines
from capsule_run.engine import configuration
from capsule_run.host import caller_files, path_resolution
from capsule_run.host.path_resolution import PROJECT_FILE, SYSTEM_FILE
from capsule_run.request.config_file import NAMED, PROJECT, SYSTEM, USER
from capsule_run.request.option_table import Option
from capsule_run.request.presets import known_presets
from capsule_run.request.validators import did_you_mean, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.request.config_file import Setting

OPTIONS = (
    Option(long="--origin", about="show: add the file and line of each setting"),
    Option(long="--preset", metavar="<NAME>", about="show: what holds with this preset", field="preset"),
    Option(long="--json", about="show: print JSON"),
    Option(long="--project", about="init: write capsule.toml in the current directory"),
    Option(long="--system", about="init: write the system's file"),
)
WORDS = ("show", "presets", "check", "init")
_FLAGS = (*(option.long for option in OPTIONS if not option.metavar), "--help", "-h")

_USER_TEMPLATE = """\
# Defaults of capsule-run for this account; docs/configuration.md has every key. Options and requests override them.

# preset = "agent"          # agent, judge, build, data-science, strict, or one of your own
# memory = "1G"
# timeout = "60s"
# readonly = ["/opt/data"]

# [env]
# LANG = "C.UTF-8"

# [presets.tests]           # `--preset tests`
# extends = "build"
# max-pids = 500
"""
_PROJECT_TEMPLATE = """\
# Defaults of capsule-run in this directory and below. A project's file can only lower limits: docs/configuration.md.

# preset = "strict"
# memory = "256M"
# timeout = "10s"
# network = false
"""
_SYSTEM_TEMPLATE = """\
# Defaults and ceilings of capsule-run on this machine: docs/configuration.md. Only root should be able to write this file.

# preset = "agent"

[ceilings]                  # no option, request, file, SDK call or tool of an agent passes these
# memory = "4G"
# timeout = "10m"
# max-pids = 1000
# network = false
# binds = ["/srv/data", "/srv/scratch:rw"]
# tools = ["/opt/node"]
# profiles = ["default", "strict"]
# languages = ["python"]
# require = ["landlock"]
# audit-log = "/var/log/capsule-run.jsonl"
"""


class _Words:
    """The parsed arguments."""

    def __init__(self, words: Sequence[str]) -> None:
        self.flags: set[str] = set()
        self.plain: list[str] = []
        self.preset: str | None = None
        waiting = list(words)
        while waiting:
            word = waiting.pop(0)
            name, equals, text = word.partition("=")
            if name == "--preset":
                if not equals and not waiting:
                    raise _usage("`--preset` needs a value")
                self.preset = text if equals else waiting.pop(0)
            elif word in _FLAGS:
                self.flags.add(word)
            elif word.startswith("-"):
                raise _usage(f"unknown option {shown(word)}{did_you_mean(word, (*_FLAGS, '--preset'))}")
            else:
                self.plain.append(word)


def _usage(why: str) -> CapsuleError:
    return CapsuleError("E1007", f"config: {why}", hint="see `capsule-run config --help`")


def help_text() -> str:
    """Return the text of `capsule-run config --help`."""
    return f"""\
capsule-run config show            Print the settings that hold here, and the ceilings
capsule-run config presets         List the presets with what they set
capsule-run config check [FILE]    Check every configuration file, or one
capsule-run config init            Write a first file of your own, with settings as comments

{option_lines(OPTIONS)}
The files: capsule.toml in this directory or above, ~/.config/capsule-run/config.toml,
/etc/capsule-run/config.toml; docs/configuration.md says what each may set.
"""


def main(words: Sequence[str]) -> int:
    """Run the subcommand and return its exit code."""
    given = _Words(words)
    if {"--help", "-h"} & given.flags or not given.plain:
        write_all(1, help_text())
        return 0 if given.flags else 2
    what, *rest = given.plain
    if what == "show" and not rest:
        return _show(given)
    if what == "presets" and not rest:
        return _presets()
    if what == "check" and len(rest) <= 1:
        return _check(rest)
    if what == "init" and not rest:
        return _init(given.flags)
    guess = did_you_mean(given.plain[0], WORDS) if given.plain and given.plain[0] not in WORDS else ""
    raise _usage(f"cannot read {shown(' '.join(given.plain))}{guess}")


def _show(words: _Words) -> int:
    found = configuration.settings(configuration.layers(own=True), words.preset, given={})
    settings = sorted(found.values(), key=lambda each: each.key)
    ceilings = list(configuration.rules().values())
    if "--json" in words.flags:
        groups = {"settings": [_fields(each) for each in settings], "ceilings": [_fields(each) for each in ceilings]}
        write_all(1, dumps(groups, indent=2) + "\n")
        return 0
    lines = _lines(settings, origin="--origin" in words.flags)
    if ceilings:
        lines += [*([""] if lines else []), "[ceilings]", *_lines(ceilings, origin="--origin" in words.flags)]
    write_lines(1, lines or ["# no configuration file sets anything"])
    return 0


def _fields(setting: Setting) -> dict[str, object]:
    fields = {"key": setting.key, "value": setting.written, "file": setting.file, "line": setting.line}
    return {**fields, "preset": setting.preset} if setting.preset else fields


def _lines(settings: Sequence[Setting], *, origin: bool) -> list[str]:
    pairs = [(f"{each.key} = {_toml(each.written)}", each) for each in settings]
    width = max([len(text) for text, _ in pairs], default=0)
    return [f"{text:<{width}}  # {_origin(each)}" if origin else text for text, each in pairs]


def _origin(setting: Setting) -> str:
    place = f"{setting.file}:{setting.line}" if setting.line else setting.file
    return f"preset `{setting.preset}`, {place}" if setting.preset else place


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{dumps(name, indent=None)} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return dumps(value, indent=None)


def _presets() -> int:
    lines: list[str] = []
    for preset in known_presets(configuration.layers(own=True)).values():
        place = f"{preset.file}:{preset.line}" if preset.line else "shipped"
        about = f": {preset.about}" if preset.about else ""
        lines.append(f"{preset.name} ({place}){about}")
        lines += [f"    extends = {_toml(list(preset.extends))}"] if preset.extends else []
        lines += [f"    {line}" for line in _lines(preset.settings, origin=False)]
    write_lines(1, lines)
    return 0


def _check(files: Sequence[str]) -> int:
    """Check each file by itself, then what they give together."""
    places = [(NAMED, path) for path in files] or _places()
    wrong = 0
    for kind, path in places:
        try:
            configuration.load(kind, path)
        except CapsuleError as error:
            wrong += 1
            write_lines(1, [error.message, *([f"    hint: {error.hint}"] if error.hint else [])])
        else:
            write_lines(1, [f"{path}: valid{_warning(kind, path)}"])
    if not wrong and not files:
        configuration.settings(configuration.layers(own=True), None, given={})
    if not places:
        write_lines(1, ["there is no configuration file"])
    return 2 if wrong else 0


def _places() -> list[tuple[str, str]]:
    found = configuration.own_files()
    return found if path_resolution.is_absent(SYSTEM_FILE) else [*found, (SYSTEM, SYSTEM_FILE)]


def _warning(kind: str, path: str) -> str:
    if kind != SYSTEM:
        return ""
    seen = posix.stat(path)
    if seen.st_uid or seen.st_mode & 0o022:
        return "; warning: not only root can write it, so its ceilings hold nobody"
    return ""


def _init(flags: set[str]) -> int:
    if {"--project", "--system"} <= flags:
        raise _usage("`--project` and `--system` cannot both be given")
    kind = PROJECT if "--project" in flags else SYSTEM if "--system" in flags else USER
    path = {PROJECT: PROJECT_FILE, SYSTEM: SYSTEM_FILE, USER: path_resolution.user_file()}[kind]
    text = {PROJECT: _PROJECT_TEMPLATE, SYSTEM: _SYSTEM_TEMPLATE, USER: _USER_TEMPLATE}[kind]
    if not path:
        raise _usage("there is no home directory for a file of your own: set HOME or XDG_CONFIG_HOME")
    if not path_resolution.is_absent(path):
        raise CapsuleError("E1005", f"config: `{path}` exists already", hint="`capsule-run config check` checks it")
    try:
        if "/" in path:
            posix.close(caller_files.open_directory(path.rpartition("/")[0], make=True))
        with caller_files.Place(path) as place:
            place.replace(text.encode(), mode=0o644)
    except OSError as error:
        why, hint = caller_files.reason_of(error)
        raise CapsuleError("E1005", f"config: cannot write `{path}`: {why}", hint=hint) from None
    write_lines(1, [path])
    return 0
