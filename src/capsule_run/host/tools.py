"""Find what a tool outside the system's directories needs of the host: an installation, an environment and its base, a file.

Loaded only for a request that names tools, and for the hint about a command that was not found inside. docs/tools.md is the
list for users. What is shown is judged by its form (docs/decisions/tools.md), because an earlier run may have planted a
link, a `#!` line or a `pyvenv.cfg`, which can name any path.
"""

from __future__ import annotations

import posix
from errno import ELOOP

from capsule_run._base.errors import CapsuleError
from capsule_run._base.lexical_paths import (
    SHIMMED,
    SYSTEM_DIRECTORIES,
    is_home,
    normal,
    shown_already,
    trees_of,
    within,
)
from capsule_run.host import path_resolution, version_managers
from capsule_run.host.survey import caller_home, caller_path, current_directory, stat_path
from capsule_run.host.system import read_bytes
from capsule_run.model.optional import ToolMounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import Request
    from capsule_run.model.source import Source


# A directory with one of these is an installation, which works as a whole and contains nothing else.
MARKS = ("pyvenv.cfg", "conda-meta/history", "include/node", "lib/rustlib", "lib/ruby", "lib/modules", "pkg/tool")
STORE = "/nix/store"  # shown whole: only nix knows which parts a program needs
BREW = "/Cellar/"
MODULES = "/node_modules/"
PROGRAM_STARTS = (b"\x7fELF", b"#!")
MAX_STEPS = 8  # a script's interpreter that is a script, a base that has a base
# These contain many things, not one installation: only a single file beneath them is shown.
SHARED_PLACES = ("/home", "/mnt", "/media", "/opt", "/srv", "/var", "/var/lib", "/tmp", "/var/tmp")


def _words(start: bytes) -> list[str]:
    """Parse a `#!` line into words; an empty list if it names no absolute path."""
    words = start[2:].partition(b"\n")[0].decode("utf-8", "surrogateescape").split()
    return words if start.startswith(b"#!") and words and words[0].startswith("/") else []


def interpreter_of(script: str) -> str:
    """Return the interpreter of a script's `#!` line, or ""."""
    return next(iter(_words(read_bytes(script, 256, follow=False))), "")


def _is_python(prefix: str) -> bool:
    try:
        names = posix.listdir(f"{prefix}/lib")
    except OSError:
        return False
    return any(
        path_resolution.exists(f"{prefix}/lib/{name}/os.py") for name in names if name.startswith(("python", "pypy"))
    )


def _is_installation(prefix: str) -> bool:
    return any(path_resolution.exists(f"{prefix}/{mark}") for mark in MARKS) or _is_python(prefix)


def _tree_around(program: str) -> str:
    """Return the installation that a program belongs to, or "". `program` is a path without links."""
    if within(program, STORE):
        return STORE
    names = program.split("/")[1:]
    if names[0] == "opt" and len(names) > 2 and names[1] not in ("bin", "sbin", "lib", "etc", "share", "local"):
        return f"/opt/{names[1]}"
    prefix = "/" + "/".join(names[:-2])
    if BREW in program:
        brew = program.partition(BREW)[0]
        return brew if path_resolution.exists(f"{brew}/bin/brew") else ""
    if _is_installation(prefix) or path_resolution.exists(f"{prefix}/bin/brew"):
        return prefix
    if MODULES in program:
        return program.partition(MODULES)[0] + MODULES.rstrip("/")
    return ""


class _Search:
    """Collects what one tool needs: `sources` to show, `links` to create, directories for `path`."""

    def __init__(self, field: str, *, search_path: tuple[str, ...], home: str, directory: str) -> None:
        self.field, self.search_path, self.home, self.directory = field, search_path, home, directory
        self.sources: dict[str, Source] = {}
        self.links: dict[str, str] = {}
        self.path: dict[str, None] = {}
        self._steps = 0

    def error(self, why: str, *, hint: str | None = None, **details: object) -> CapsuleError:
        return CapsuleError("E2004", f"{self.field}: {why}", details=details, hint=hint)

    def walk(self, path: str) -> tuple[str, list[str]]:
        """Return `path` without links, and the links that were followed, which must be created inside."""
        try:
            real, links = path_resolution.real_and_links(path)
        except OSError as error:
            reason = posix.strerror(error.errno or 0).lower()
            raise self.error(f"cannot follow `{path}`: {reason}", path=path) from None
        self.links.update(links)
        return real, [link for link, _target in links]

    def is_shown(self, path: str) -> bool:
        return shown_already(path) or any(within(path, tree) for tree in self.sources)

    def is_too_broad(self, tree: str) -> bool:
        """Return whether a directory contains more than one tool: the home directory, its parents, system directories."""
        return tree in (*SYSTEM_DIRECTORIES, *SHARED_PLACES) or within(self.home, tree) or is_home(tree, self.home)

    def add(self, tree: str) -> None:
        """Show a tree, except parts that contain more than one tool or are shown already."""
        for part in trees_of(tree, self.home):
            if self.is_too_broad(part) or self.is_shown(part):
                continue
            source = stat_path(part)
            if source.error:
                raise self.error(f"cannot share `{part}`: {posix.strerror(source.error).lower()}", path=part)
            self.sources[part] = source

    def program(self, path: str) -> None:
        """Show a program by its absolute path: the installations on its path, else the file; then its interpreter."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self.error(f"`{path}` needs an interpreter that needs an interpreter, and so on")
        real, links = self.walk(path)
        for spot in (*links, real):
            tree = "" if shown_already(spot) else _tree_around(spot)
            if tree:
                self.add(tree)
                self.base_of(tree)
        start = read_bytes(real, 256, follow=False)
        if not self.is_shown(real):
            if not path_resolution.is_executable(real) or not start.startswith(PROGRAM_STARTS):
                raise self.error(f"`{path}` is not a program that can be executed", path=real)
            self.sources[real] = stat_path(real)
        directory = path.rpartition("/")[0]
        if not shown_already(directory):
            self.path[directory] = None
        self.interpreter(start)

    def interpreter(self, start: bytes) -> None:
        words = _words(start)
        if not words:
            return
        if words[0].rpartition("/")[2] != "env":
            self.program(normal(words[0]))
            return
        name = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
        if name and name not in SHIMMED and "/" not in name:  # `python` inside is always the one that runs us
            found = self.which(name)
            if found:
                self.program(found)

    def base_of(self, environment: str) -> None:
        """Show the Python that a virtual environment is based on, as its `pyvenv.cfg` names it."""
        text = read_bytes(f"{environment}/pyvenv.cfg", 1 << 16, follow=False).decode("utf-8", "surrogateescape")
        lines = (line.partition("=") for line in text.splitlines())
        home = next((rest.strip() for name, _equals, rest in lines if name.strip() == "home"), "")
        if not home.startswith("/"):
            return
        real, _links = self.walk(normal(home))
        prefix = real.rpartition("/")[0]
        if shown_already(real) or prefix in self.sources:
            return
        if not _is_installation(prefix):
            raise self.error(
                f"`{environment}/pyvenv.cfg` says that its Python is in `{home}`, where none is installed",
                hint="recreate the environment with an installed Python",
                path=home,
            )
        self.add(prefix)
        if path_resolution.exists(f"{prefix}/pyvenv.cfg"):
            self.base_of(prefix)

    def which(self, name: str) -> str:
        """Find `name` on the PATH of what is shown, then on the caller's; resolve shims. Return "" if it is missing."""
        for part in (*self.path, *self.search_path):
            if path_resolution.is_executable(f"{part}/{name}"):
                found = version_managers.resolve_shim(f"{part}/{name}", home=self.home, directory=self.directory)
                if found:
                    return found
        return ""

    def tree(self, path: str) -> None:
        """Show a directory that the caller names, whole, and add its `bin`, or itself, to PATH."""
        if self.is_too_broad(path):
            raise self.error(
                f"`{path}` is more than one tool", hint="name the program, or its own directory", path=path
            )
        source = stat_path(path, directory=self.directory)
        if source.error:
            # an earlier run may have planted the link
            raise self.error(
                f"`{path}` contains a symbolic link and resolves to `{source.path}`"
                if source.error == ELOOP
                else f"cannot share `{path}`: {posix.strerror(source.error).lower()}",
                hint=f"name `{source.path}` itself if that is the intended path" if source.error == ELOOP else None,
                path=source.path,
            )
        if not self.is_shown(source.path):
            self.sources[source.path] = source
        self.base_of(source.path)
        inner = f"{source.path}/bin"
        self.path[inner if path_resolution.exists(inner) else source.path] = None


def find(asked: str, field: str, *, search_path: tuple[str, ...], home: str, directory: str) -> ToolMounts:
    """Find what to show for the tool `asked`, a name on the caller's PATH or a path. Raises CapsuleError E2004."""
    search = _Search(field, search_path=search_path, home=home, directory=directory)
    if "/" in asked or asked.startswith("."):
        place = path_resolution.join(directory, asked)
        if path_resolution.is_directory(place):
            search.tree(place)
        elif not path_resolution.exists(place):
            raise search.error(f"`{asked}` does not exist", path=place)
        else:
            search.program(version_managers.resolve_shim(place, home=home, directory=directory) or place)
    else:
        found = search.which(asked)
        if not found:
            raise search.error(
                f"`{asked}` is not on the PATH of the caller", hint=f"name it by its path, such as `./{asked}`"
            )
        search.program(found)
    return ToolMounts(
        asked=asked,
        sources=tuple(search.sources.values()),
        links=tuple((link, target) for link, target in search.links.items() if not search.is_shown(link)),
        path=tuple(search.path),
    )


def of_request(request: Request) -> tuple[ToolMounts, ...]:
    """Find what the tools of a request need of the host. Raises CapsuleError E2004."""
    search_path, home, directory = caller_path(), caller_home(), current_directory()
    return tuple(
        find(tool, f"isolation.tools[{index}]", search_path=search_path, home=home, directory=directory)
        for index, tool in enumerate(request.isolation.tools)
    )
