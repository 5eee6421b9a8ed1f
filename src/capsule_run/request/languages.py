"""The table of languages that code can be in, for `exec`, `run_code` and every interface for models.

A row has the name of the source file, and how each toolchain runs it. The source is a file in the workspace, so that
tracebacks and compilers name it; compilers write to /tmp. Compilation happens in the sandbox, under the limits of the run,
since a compiler that reads untrusted source is itself untrusted.

Pure. The caller passes a predicate that finds out which toolchains work in the sandbox.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.request.validators import check_string, did_you_mean, invalid, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1 << 20


class Toolchain(Value):
    """One way to run a language: the programs that it needs, and its command line, in which `{}` is the source.

    `build` is a shell line in which `$0` is the source; `run` then has no `{}`. `probe` is a command that succeeds if the
    programs have at least version `since`.
    """

    programs: tuple[str, ...]
    run: tuple[str, ...]
    build: str = ""
    probe: tuple[str, ...] = ()
    since: str = ""
    environment: tuple[tuple[str, str], ...] = ()


class Language(Value):
    """One row. `memory_bytes` replaces the default if the smallest program needs more; a request overrides it."""

    name: str
    also: tuple[str, ...]
    file: str
    suffixes: tuple[str, ...]
    toolchains: tuple[Toolchain, ...]
    install: str
    memory_bytes: int | None = None


class Program(Value):
    """The request fields that run some code."""

    command: tuple[str, ...]
    files: Mapping[str, str]
    environment: Mapping[str, str]
    memory_bytes: int | None


def _tool(
    programs: str, run: str, *, build: str = "", probe: str = "", since: str = "", **environment: str
) -> Toolchain:
    return Toolchain(
        programs=tuple(programs.split()),
        run=tuple(run.split()),
        build=build,
        probe=tuple(probe.split()),
        since=since,
        environment=tuple(environment.items()),
    )


_BUILT = "/tmp/main"  # not in the workspace, which may be read-only and from which files are collected
# By default Deno looks for new versions, and prints colours.
_DENO = {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
# Modules off: a single file has none, and there is no network.
_GO = {"GO111MODULE": "off", "GOTOOLCHAIN": "local"}
# Check types, but not those of libraries. CommonJS, since Node treats a single `.js` file so.
_TSC = 'tsc --outDir /tmp/main --target es2022 --module commonjs --skipLibCheck "$0"'
_STRIP = "--experimental-strip-types --no-warnings"

_TABLE = (
    Language(
        name="python",
        also=("py", "python3"),
        file="main.py",
        suffixes=(".py",),
        toolchains=(_tool("python", "python {}"),),
        install="",  # always there
    ),
    Language(
        name="javascript",
        also=("js", "node", "nodejs"),
        file="main.js",
        suffixes=(".js", ".mjs", ".cjs"),
        # all permissions of Deno: the sandbox confines it
        toolchains=(
            _tool("node", "node {}"),
            _tool("deno", "deno run --quiet --allow-all {}", **_DENO),
            _tool("bun", "bun run {}"),
        ),
        install="nodejs",
    ),
    Language(
        name="typescript",
        also=("ts",),
        file="main.ts",
        suffixes=(".ts", ".mts", ".cts"),
        # toolchains that need no second file first; Node alone strips types from 22.6 on
        toolchains=(
            _tool("deno", "deno run --quiet --allow-all {}", **_DENO),
            _tool("bun", "bun run {}"),
            _tool("tsx", "tsx {}"),
            _tool("tsc node", "node /tmp/main/{stem}.js", build=_TSC),
            _tool("node", f"node {_STRIP} {{}}", probe=f"node {_STRIP} --eval 0", since="22.6"),
        ),
        install="node-typescript",
    ),
    Language(
        name="bash",
        also=("sh", "shell"),
        file="main.sh",
        suffixes=(".sh", ".bash"),
        toolchains=(_tool("bash", "bash {}"), _tool("sh", "sh {}")),
        install="bash",
    ),
    Language(
        name="ruby",
        also=("rb",),
        file="main.rb",
        suffixes=(".rb",),
        toolchains=(_tool("ruby", "ruby {}"),),
        install="ruby",
    ),
    Language(
        name="perl",
        also=("pl",),
        file="main.pl",
        suffixes=(".pl",),
        toolchains=(_tool("perl", "perl {}"),),
        install="perl",
    ),
    Language(
        name="c",
        also=(),
        file="main.c",
        suffixes=(".c",),
        # -lm: programs that include math.h expect it
        toolchains=tuple(_tool(cc, _BUILT, build=f'{cc} -O1 -o {_BUILT} "$0" -lm') for cc in ("cc", "gcc", "clang")),
        install="gcc libc6-dev",
    ),
    Language(
        name="c++",
        also=("cpp", "cxx", "cc"),
        file="main.cpp",
        suffixes=(".cpp", ".cc", ".cxx"),
        toolchains=tuple(_tool(cxx, _BUILT, build=f'{cxx} -O1 -o {_BUILT} "$0"') for cxx in ("c++", "g++", "clang++")),
        install="g++",
    ),
    Language(
        name="java",
        also=(),
        file="Main.java",
        suffixes=(".java",),
        # compiles in memory and runs; `javac` proves that it is a JDK. The serial collector starts few threads.
        toolchains=(_tool("java javac", "java -XX:+UseSerialGC {}"),),
        install="default-jdk-headless",
    ),
    Language(
        name="go",
        also=("golang",),
        file="main.go",
        suffixes=(".go",),
        toolchains=(_tool("go", _BUILT, build=f'go build -o {_BUILT} "$0"', **_GO),),
        install="golang-go",
        # from Go 1.20 on, a build in an empty cache compiles the standard library: 1.27 needs between 256 and 512 MiB
        memory_bytes=512 * MIB,
    ),
    Language(
        name="rust",
        also=("rs",),
        file="main.rs",
        suffixes=(".rs",),
        toolchains=(_tool("rustc", _BUILT, build=f'rustc --edition 2021 -C opt-level=1 -o {_BUILT} "$0"'),),
        install="rustc",
    ),
)
LANGUAGES = {language.name: language for language in _TABLE}
_ALSO = {other: language for language in _TABLE for other in (language.name, *language.also)}


def language(name: object, label: str = "language") -> Language:
    """Return the row of a language by any of its names. Raises CapsuleError E1003, E1005."""
    word = check_string(name, label)
    found = _ALSO.get(word.lower())
    if found is None:
        why = f"unknown language {shown(word)}{did_you_mean(word.lower(), _ALSO)}"
        raise invalid("E1005", label, why, hint="known languages: " + ", ".join(LANGUAGES))
    return found


def language_of_file(path: str) -> Language | None:
    """Return the row for the suffix of a file name; None if there is none."""
    name = path.rpartition("/")[2]
    return next((one for one in _TABLE if name.endswith(one.suffixes) and name not in one.suffixes), None)


def toolchain(row: Language, works: Callable[[Toolchain], bool]) -> Toolchain:
    """Return the first toolchain of a language that works. Raises CapsuleError E1010."""
    for one in row.toolchains:
        if works(one):
            return one
    ways = [
        " and ".join(f"`{program}`" for program in one.programs) + (f" {one.since} or later" if one.since else "")
        for one in row.toolchains
    ]
    raise CapsuleError(
        "E1010",
        f"the language `{row.name}` needs {', or '.join(ways)}, and the sandbox has none",
        details={"language": row.name, "programs": [list(one.programs) for one in row.toolchains]},
        hint=f"install it on the host, such as with `apt-get install {row.install}`, or use another language",
    )


def program(
    code: str,
    row: Language,
    works: Callable[[Toolchain], bool],
    *,
    arguments: Sequence[str] = (),
    file: str | None = None,
) -> Program:
    """Return the request fields that run `code`. `file` is the name of the source file, if not the usual one."""
    tools = toolchain(row, works)
    name = file or _usual_file(code, row)
    source = f"./{name}" if name.startswith("-") else name
    stem = name.rpartition(".")[0]
    run = [word.replace("{stem}", stem).replace("{}", source) for word in tools.run]
    # If the compiler fails, its exit code is the shell's. No file name is part of the shell line: `$0` is the source.
    build = ("sh", "-c", f'{tools.build} && exec "$@"', source) if tools.build else ()
    return Program(
        command=(*build, *run, *arguments),
        files={name: code},
        environment=dict(tools.environment),
        memory_bytes=row.memory_bytes,
    )


def _usual_file(code: str, row: Language) -> str:
    """Return the language's file name; `.mjs` for an ES module, which Node before 22.7 does not detect."""
    if row.name != "javascript" or "require(" in code:
        return row.file
    is_module = any(line.startswith(("import ", "import{", "export ", "export{")) for line in code.splitlines())
    return "main.mjs" if is_module else row.file
