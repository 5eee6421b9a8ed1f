"""Check the tables of a configuration file: defaults, presets, and the ceilings of the system's file.

Pure; `engine.configuration` reads the files. A key is the name of an option without its dashes, and its value is read by the
option itself, so that a file accepts exactly what the command line accepts. docs/configuration.md is the page for users.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.request.languages import language
from capsule_run.request.option_table import OPTIONS
from capsule_run.request.parse import FIELDS
from capsule_run.request.validators import did_you_mean, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from capsule_run.request.option_table import Option

    Lines = Mapping[tuple[str, ...], int]

# Who wrote a file, nearest to the run first. `SHIPPED` are our own presets.
NAMED, PROJECT, USER, SYSTEM, SHIPPED = "named", "project", "user", "system", "shipped"
PRESET, PRESETS, CEILINGS, EXTENDS, ABOUT = "preset", "presets", "ceilings", "extends", "description"
# Options of one run only, or of one command line.
_NOT_IN_FILES = ("execution_id", "preset")
_MONITORING = ("metrics_file", "audit_log", "audit_required")
SETTABLE = {
    option.long.removeprefix("--"): option
    for option in OPTIONS
    if (option.field in FIELDS or option.field in _MONITORING) and option.field not in _NOT_IN_FILES
}
# All that a project's file may set, and only to less than what holds without it (docs/decisions/project-file.md).
TIGHTENING = (
    *("timeout", "memory", "cpu", "max-output", "max-pids", "disk", "stack", "max-file-size", "max-open-files", "cpus"),
    *("cpu-time", "io-read-bps", "io-write-bps", "io-read-iops", "io-write-iops", "max-collect"),
    *("network", "profile", "on-violation", "require"),
)
# Limits that can have a ceiling: the keys, and what else `[ceilings]` may have.
LIMITS = tuple(name for name in TIGHTENING if name not in ("network", "profile", "on-violation", "require"))
LISTS = ("binds", "tools", "profiles", "languages", "unmask")
CEILING_KEYS = (*LIMITS, "upper", "network", *LISTS, "require", "audit-log")


class Setting(Value):
    """One value of a file: its key, the request field, the checked value, and where it is written."""

    key: str
    field: str
    value: object
    file: str
    line: int
    written: object  # the value as the file has it
    preset: str = ""  # the preset that has it; "" for one that a file sets itself

    @property
    def place(self) -> str:
        """The place in words, for messages."""
        return f"{self.file}, line {self.line}"


class Preset(Value):
    """A named set of options."""

    name: str
    extends: tuple[str, ...]
    about: str
    settings: tuple[Setting, ...]
    file: str
    line: int

    @property
    def place(self) -> str:
        """The place in words, for messages."""
        return f"{self.file}, line {self.line}"


class Layer(Value):
    """What one file says."""

    kind: str
    file: str
    settings: tuple[Setting, ...]
    preset: Setting | None
    presets: tuple[Preset, ...]
    ceilings: tuple[Setting, ...]


class _Reader:
    """Checks one file. Every error names the file and the line."""

    def __init__(self, kind: str, file: str, lines: Lines) -> None:
        self._kind, self._file, self._lines = kind, file, lines

    def wrong(self, path: tuple[str, ...], why: str, *, hint: str = "") -> CapsuleError:
        line = self._lines.get(path, 0)
        place = f"{self._file}, line {line}" if line else self._file
        details = {"file": self._file, "line": line, "key": ".".join(path)}
        return CapsuleError("E1013", f"{place}: {why}", details=details, hint=hint or None)

    def table(self, value: object, path: tuple[str, ...]) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self.wrong(path, f"`{path[-1]}` must be a table")
        return value

    def setting(self, path: tuple[str, ...], value: object, *, preset: str = "") -> Setting:
        """Check one option. Underscores count as dashes: `max_pids` is `max-pids`."""
        key = path[-1].replace("_", "-")
        option = SETTABLE.get(key)
        if option is None:
            raise self.unknown(path, SETTABLE)
        if self._kind == PROJECT and key not in TIGHTENING:
            hint = "set it in your own file (`capsule-run config init`), or give the option"
            raise self.wrong(
                path, f"`{key}`: a project's file can only lower limits, not change what is shown", hint=hint
            )
        try:
            checked = _value(option, value, key)
        except CapsuleError as error:
            raise self.wrong(path, error.message, hint=error.hint) from None
        return self._setting(key, option.field, checked, path, value, preset=preset)

    def _setting(
        self, key: str, field: str, checked: object, path: tuple[str, ...], written: object, *, preset: str = ""
    ) -> Setting:
        line = self._lines.get(path, 0)
        return Setting(key=key, field=field, value=checked, file=self._file, line=line, written=written, preset=preset)

    def unknown(self, path: tuple[str, ...], known: Iterable[str]) -> CapsuleError:
        names = list(known)
        why = f"unknown key {shown(path[-1])}{did_you_mean(path[-1].replace('_', '-'), names)}"
        return self.wrong(path, why, hint="known keys: " + ", ".join(names))

    def name(self, path: tuple[str, ...], value: object) -> Setting:
        if not isinstance(value, str) or not value:
            raise self.wrong(path, f"`{path[-1]}` must be the name of a preset")
        return self._setting(path[-1], PRESET, value, path, value)

    def preset(self, name: str, value: object) -> Preset:
        path = (PRESETS, name)
        given = dict(self.table(value, path))
        extends = given.pop(EXTENDS, [])
        parents = [extends] if isinstance(extends, str) else extends
        if not isinstance(parents, list) or not all(isinstance(each, str) for each in parents):
            raise self.wrong((*path, EXTENDS), "`extends` must be the name of a preset, or a list of names")
        about = given.pop(ABOUT, "")
        if not isinstance(about, str):
            raise self.wrong((*path, ABOUT), "`description` must be a string")
        settings = tuple([self.setting((*path, key), each, preset=name) for key, each in given.items()])
        return Preset(
            name=name,
            extends=tuple(parents),
            about=about,
            settings=settings,
            file=self._file,
            line=self._lines.get(path, 0),
        )

    def ceiling(self, key: str, value: object) -> Setting:
        path, name = (CEILINGS, key), key.replace("_", "-")
        if name not in CEILING_KEYS:
            raise self.unknown(path, CEILING_KEYS)
        if name == "network" and isinstance(value, list):
            why = "`network` must be true or false: the sandbox has the host's whole network or none, no list of hosts"
            raise self.wrong(path, why, hint="filter the hosts with the machine's firewall")
        if name in LISTS:
            checked: object = self.words(path, value, absolute=name in ("binds", "tools"))
            if name == "languages":
                checked = tuple([self.language(path, each) for each in self.words(path, value, absolute=False)])
            field = f"ceilings.{name}"
        elif name == "upper":
            checked, field = _value(SETTABLE["disk"], value, name), "isolation.workspace_upper.bytes"
        else:
            setting = self.setting(path, value)
            checked, field = setting.value, setting.field
        return self._setting(name, field, checked, path, value)

    def language(self, path: tuple[str, ...], word: str) -> str:
        try:
            return language(word, f"`{path[-1]}`").name
        except CapsuleError as error:
            raise self.wrong(path, error.message, hint=error.hint) from None

    def words(self, path: tuple[str, ...], value: object, *, absolute: bool) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise self.wrong(path, f"`{path[-1]}` must be a list of strings")
        for each in value:
            if absolute and not each.startswith("/"):
                raise self.wrong(path, f"`{path[-1]}` must have absolute paths, got {shown(each)}")
        return tuple(value)


def _value(option: Option, value: object, key: str) -> object:
    """Read a value of a file as the option reads its word. Raises CapsuleError E10xx, which names the key."""
    if not option.metavar:
        if not isinstance(value, bool):
            raise CapsuleError("E1003", f"`{key}` must be true or false")
        if option.gives is None:
            if not value:
                raise CapsuleError("E1003", f"`{key}` can only be true")
            return None
        return option.gives if value else not option.gives
    if not option.repeats:
        return _read(option, _word(value, key, option), key)
    if option.field in ("environment", "files"):
        if not isinstance(value, dict):
            raise CapsuleError("E1003", f"`{key}` must be a table of strings")
        return dict(_pair(_read(option, f"{name}={_word(each, key, option)}", key)) for name, each in value.items())
    if not isinstance(value, list):
        raise CapsuleError("E1003", f"`{key}` must be a list")
    return tuple([_read(option, _word(each, key, option), key) for each in value])


def _read(option: Option, word: str, key: str) -> object:
    value = word if option.read is None else option.read(word, f"`{key}`")
    for path in _host_paths(option, value):
        if not path.startswith("/"):
            raise CapsuleError("E1005", f"`{key}` must have an absolute path in a file, got {shown(path)}")
    return value


def _host_paths(option: Option, value: object) -> list[str]:
    """Return the host's paths in a value. A relative one would mean something else in each directory."""
    if option.field in (
        "isolation.readonly_paths",
        "isolation.writable_paths",
        "collect_to",
        "save_changes",
        *_MONITORING,
    ):
        return [value] if isinstance(value, str) else []
    if option.field in ("isolation.tools", "profile"):
        return [value] if isinstance(value, str) and ("/" in value or value.endswith(".toml")) else []
    found: object = value
    if option.field == "files" and isinstance(value, tuple):
        found = value[1]
    if isinstance(found, dict):
        return [str(found[name]) for name in ("source", "directory") if name in found]
    return []


def _word(value: object, key: str, option: Option) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise CapsuleError("E1003", f"`{key}` must be {option.metavar}, as a string or a number")


def _pair(value: object) -> tuple[str, object]:
    assert isinstance(value, tuple)
    name, member = value
    return name, member


def read_layer(kind: str, file: str, table: Mapping[str, object], lines: Lines) -> Layer:
    """Check the table of a file. Raises CapsuleError E1013, which names the file and the line."""
    reader = _Reader(kind, file, lines)
    given = dict(table)
    preset = reader.name((PRESET,), given.pop(PRESET)) if PRESET in given else None
    presets = reader.table(given.pop(PRESETS, {}), (PRESETS,))
    ceilings = reader.table(given.pop(CEILINGS, {}), (CEILINGS,))
    if presets and kind == PROJECT:
        raise reader.wrong((PRESETS,), "a project's file cannot define presets", hint="define them in your own file")
    if ceilings and kind != SYSTEM:
        raise reader.wrong((CEILINGS,), "only the system's file can set ceilings")
    return Layer(
        kind=kind,
        file=file,
        settings=tuple([reader.setting((key,), value) for key, value in given.items()]),
        preset=preset,
        presets=tuple([reader.preset(name, value) for name, value in presets.items()]),
        ceilings=tuple([reader.ceiling(key, value) for key, value in ceilings.items()]),
    )
