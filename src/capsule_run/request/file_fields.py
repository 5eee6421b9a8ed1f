"""Validate the fields about files: `files`, `collect`, `unmask` and the upper directory; match `collect` patterns.

Pure. Imported only for requests that have one of them.
"""

from __future__ import annotations

from capsule_run._base import known_paths
from capsule_run._base.value import replace
from capsule_run.model.request import InputFile, WorkspaceUpper
from capsule_run.request.sizes import parse_size
from capsule_run.request.validators import (
    check_base64,
    check_source,
    check_stdin,
    did_you_mean,
    encode,
    integer,
    invalid,
    shown,
    text_of_path,
    wrong_type,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.request.validators import Checker


MAX_FILES = 100_000
MAX_PATTERNS = 256
_CONTENTS = ("text", "base64", "source")


def check_mode(value: object, label: str) -> int:
    """Check permission bits as octal digits, such as `0755`, without set-id and sticky bits."""
    if not isinstance(value, str):
        raise wrong_type(label, "a string of octal digits", value, hint='write "0644" or "0755"')
    if not (3 <= len(value) <= 4 and set(value) <= set("01234567") and int(value, 8) <= 0o777):
        raise invalid("E1005", label, f"must be octal, from 000 to 0777, got {shown(value)}")
    return int(value, 8)


def _check_file(path: str, value: object, label: str) -> InputFile:
    if isinstance(value, InputFile):
        value = _file_object(value)
    if isinstance(value, (str, bytes)):
        value = {"text": value}
    if isinstance(value, (bytearray, memoryview)):
        value = {"text": bytes(value)}
    if not isinstance(value, dict):
        raise wrong_type(label, "a string or an object", value)
    for name in value:
        if name not in (*_CONTENTS, "mode"):
            raise invalid(
                "E1002", label, f"unknown field {shown(name)}", hint="known fields: text, base64, source, mode"
            )
    given = [name for name in _CONTENTS if name in value]
    if len(given) != 1:
        code = "E1009" if given else "E1006"
        raise invalid(code, label, "needs exactly one of `text`, `base64` and `source`")
    mode = check_mode(value["mode"], f"{label}.mode") if "mode" in value else None
    field, place = value[given[0]], f"{label}.{given[0]}"
    if given[0] == "source":
        return InputFile(path=path, source=check_source(field, place), mode=mode)
    content = check_stdin(field, place) if given[0] == "text" else check_base64(field, place)
    return InputFile(path=path, content=content, mode=mode)


def check_workspace_upper(value: object, label: str) -> WorkspaceUpper:
    """Check a directory, or an object with a directory and a limit in bytes."""
    if isinstance(value, WorkspaceUpper):
        return value
    fields: dict[str, Checker] = {"directory": check_source, "bytes": integer(1 << 20, 1 << 62, " bytes")}
    value = text_of_path(value)
    if isinstance(value, str):
        value = {"directory": value}
    if not isinstance(value, dict):
        raise wrong_type(label, "a path or an object", value)
    for name in value:
        if name not in fields:
            raise invalid("E1002", f"{label}", f"unknown field {shown(name)}", hint="known fields: directory, bytes")
    if "directory" not in value:
        raise invalid("E1006", label, "the field `directory` is missing")
    found = {name: check(value[name], f"{label}.{name}") for name, check in fields.items() if name in value}
    return replace(WorkspaceUpper(directory=""), **found)


def read_workspace_upper(word: str, label: str) -> object:
    """Read the option's value, `DIR` or `DIR:SIZE`."""
    directory, colon, size = word.rpartition(":")
    if not colon:
        return {"directory": check_source(word, label)}
    return {"directory": check_source(directory, label), "bytes": parse_size(size, label=f"{label} size")}


def check_files(value: object, label: str) -> tuple[InputFile, ...]:
    """Check an object of files by path. Raises E1009 for two files with one path, or a file beneath another."""
    if isinstance(value, (tuple, list)) and all(isinstance(file, InputFile) for file in value):
        value = {file.path: _file_object(file) for file in value}
    if not isinstance(value, dict):
        raise wrong_type(label, "an object", value)
    if len(value) > MAX_FILES:
        raise invalid("E1008", label, f"at most {MAX_FILES} files, got {len(value)}")
    files: dict[str, InputFile] = {}
    for name, given in value.items():
        path = check_inner_path(name, f"{label} path")
        if path in files:
            raise invalid("E1009", label, f"`{path}` is given twice")
        files[path] = _check_file(path, given, f"{label}[{shown(path)}]")
    for path in files:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise invalid("E1009", label, f"`{parent}` cannot be both a file and a parent directory of `{path}`")
            parent = parent.rpartition("/")[0]
    return tuple(files.values())


def _file_object(file: InputFile) -> dict[str, object]:
    """Return the object from which `_check_file` makes this file."""
    given: dict[str, object] = {"source": file.source} if file.source is not None else {"text": file.content}
    return given if file.mode is None else {**given, "mode": f"{file.mode:04o}"}


def files_to_mapping(files: tuple[InputFile, ...]) -> dict[str, object]:
    """Return the object from which `check_files` makes these files."""
    return {file.path: _file_object(file) for file in files}


def check_unmask(value: object, label: str) -> tuple[str, ...]:
    """Check a list of names of secrets, spelled as in `_base.known_paths`."""
    if not isinstance(value, (list, tuple)):
        raise wrong_type(label, "a list of names", value)
    for index, name in enumerate(value):
        if name not in known_paths.SECRETS:
            guess = did_you_mean(name, known_paths.SECRETS) if isinstance(name, str) else ""
            why = f"{shown(name)} is not masked{guess}"
            raise invalid("E1005", f"{label}[{index}]", why, hint="docs/files.md lists the names")
    return tuple(value)


def check_collect(value: object, label: str) -> tuple[str, ...]:
    """Check a list of patterns, each written like a path in the workspace."""
    if not isinstance(value, (list, tuple)):
        raise wrong_type(label, "a list of patterns", value)
    if len(value) > MAX_PATTERNS:
        raise invalid("E1008", label, f"at most {MAX_PATTERNS} patterns, got {len(value)}")
    return tuple([_check_pattern(pattern, f"{label}[{index}]") for index, pattern in enumerate(value)])


def _check_pattern(value: object, label: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(label, "a string", value)
    if "\0" in value:
        raise invalid("E1005", label, "must not contain a NUL byte")
    encode(value, label)
    names = [name for name in value.split("/") if name not in ("", ".")]
    if value.startswith("/"):
        if names[:1] != [WORKSPACE[1:]]:
            raise invalid("E1005", label, f"must be relative, or below `{WORKSPACE}`; got {shown(value)}")
        del names[0]
    if ".." in names or not names:
        raise invalid("E1005", label, f"must name files in the workspace, without `..`; got {shown(value)}")
    if value.endswith("/"):
        names.append("**")
    if len(names) > MAX_NAMES:
        raise invalid("E1008", label, f"must have at most {MAX_NAMES} names, got {len(names)}")
    return "/".join(names)


WORKSPACE = "/workspace"
MAX_NAMES = 64  # depth limit of paths, also of those that the command creates


def check_inner_path(value: object, label: str) -> str:
    """Check a path in the workspace, relative to it or absolute beneath `/workspace`; return it relative and normalized."""
    path = check_source(value, label)
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/"):
        if names[:1] != [WORKSPACE[1:]]:
            raise invalid(
                "E1005", label, f"must be in the workspace: relative, or below `{WORKSPACE}`; got {shown(path)}"
            )
        del names[0]
    if ".." in names:
        raise invalid("E1005", label, f"must not contain `..`, got {shown(path)}")
    if not names or path.endswith("/"):
        raise invalid("E1005", label, f"must name a file in the workspace, got {shown(path)}")
    if len(names) > MAX_NAMES:
        raise invalid("E1008", label, f"must have at most {MAX_NAMES} names, got {len(names)}")
    return "/".join(names)


def matches_name(name: str, pattern: str) -> bool:
    """Return whether a name matches one component of a pattern, in time proportional to the product of their lengths."""
    at = back = 0
    star = -1
    step = 0
    while at < len(name):
        width = _matches_letter(name[at], pattern, step)
        if step < len(pattern) and pattern[step] == "*":
            star, back, step = step, at, step + 1
        elif width:
            at, step = at + 1, step + width
        elif star >= 0:
            back += 1
            at, step = back, star + 1
        else:
            return False
    return pattern[step:].strip("*") == ""


def _matches_letter(letter: str, pattern: str, at: int) -> int:
    """Return how many characters of the pattern at `at` match this letter; 0 if it does not match, or for a `*`."""
    if at >= len(pattern) or pattern[at] == "*":
        return 0
    end = pattern.find("]", at + 2) if pattern[at] == "[" else -1
    if end < 0:  # an unclosed bracket is literal
        return 1 if pattern[at] in ("?", letter) else 0
    inside = pattern[at + 1 : end]
    negated = inside[0] == "!" and len(inside) > 1
    found = _in_class(letter, inside[1:] if negated else inside)
    return end + 1 - at if found != negated else 0


def _in_class(letter: str, inside: str) -> bool:
    at = 0
    while at < len(inside):
        if at + 2 < len(inside) and inside[at + 1] == "-":
            if inside[at] <= letter <= inside[at + 2]:
                return True
            at += 3
        elif inside[at] == letter:
            return True
        else:
            at += 1
    return False


def advance(name: str, states: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return what remains of each pattern after the component `name`. An empty rest: the path so far matches."""
    rests: dict[tuple[str, ...], None] = {}
    for rest in states:
        if not rest:
            continue
        if rest[0] == "**":
            rests[tuple(rest)] = None
            for further in advance(name, [rest[1:]]) if len(rest) > 1 else [()]:
                rests[tuple(further)] = None
        elif matches_name(name, rest[0]):
            rests[tuple(rest[1:])] = None
    return list(rests)
