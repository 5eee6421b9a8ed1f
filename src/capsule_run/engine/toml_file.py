"""Read a TOML file of the caller's: a system call profile or a configuration file. Imported only if there is one."""

from __future__ import annotations

import tomllib

from capsule_run.host.caller_files import read, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from capsule_run._base.errors import CapsuleError

    class Wrong(Protocol):
        """Builds the error of a file that cannot be used."""

        def __call__(self, name: str, why: str, *, hint: str = "") -> CapsuleError: ...


MAX_DOTS = 100  # of a line: tomllib takes a dotted key of n parts in n * n steps, and no key of ours has a dot
MAX_LINES = 100  # of one value: `lines_of` reads a value again for each of its lines


def text_of(path: str, most: int, wrong: Wrong) -> str:
    """Return the text of the file. Raises what `wrong` returns."""
    try:
        content = read(path, most)
        if len(content) > most:
            raise wrong(path, f"the file has more than {most} bytes")
        if any(line.count(b".") > MAX_DOTS for line in content.split(b"\n")):
            raise wrong(path, f"a line has more than {MAX_DOTS} dots")
        return content.decode()
    except OSError as error:
        why, hint = reason_of(error)
        raise wrong(path, f"cannot read the file: {why}", hint=hint or "") from None
    except ValueError as error:
        raise wrong(path, f"not valid TOML: {error}") from None


def table_of(path: str, text: str, wrong: Wrong) -> dict[str, object]:
    """Return the table of a TOML text. Raises what `wrong` returns."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise wrong(path, "not valid TOML: nested too deeply") from None
    except ValueError as error:  # from tomllib, or from a number with thousands of digits
        raise wrong(path, f"not valid TOML: {error}") from None


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of each key of a valid TOML text, which tomllib does not say. A value has at most MAX_LINES lines.

    Headers and pairs are valid TOML each for itself, so the text is read again statement by statement.
    """
    lines = text.splitlines()
    found: dict[tuple[str, ...], int] = {}
    header: tuple[str, ...] = ()
    at = 0
    while at < len(lines):
        statement, length = _statement(lines[at : at + MAX_LINES])
        if length == 0:
            break
        is_header = lines[at].lstrip().startswith("[")
        path: tuple[str, ...] = () if is_header else header
        inner: object = statement
        while isinstance(inner, dict) and inner:
            name = next(iter(inner))
            path, inner = (*path, name), inner[name]
            found.setdefault(path, at + 1)
            if isinstance(inner, dict) and not is_header:
                found.update({(*path, key): at + 1 for key in inner if (*path, key) not in found})
        header = path if is_header else header
        at += length
    return found


def _statement(lines: list[str]) -> tuple[dict[str, object], int]:
    """Return the first statement of the lines and how many it takes; 0 for one that has more than these."""
    for length in range(1, len(lines) + 1):
        try:
            return tomllib.loads("\n".join(lines[:length])), length
        except ValueError:
            continue
    return {}, 0
