"""The languages that code may be in: one table, used by `exec`, the SDK and every door for models.

A row says what the file is called, and how each toolchain that can run it is started. The source is a file in the
workspace, so that tracebacks and compilers name it; what a compiler makes goes to /tmp. Compiling happens inside, under
the limits of the run: a compiler that reads an attacker's source is a program to confine like any other.

Rank 1: pure. Which toolchains work in the sandbox is asked of the caller, who can look.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.request.validators import check_string, nearest, refuse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1 << 20


class Toolchain(Value):
    """One way to run a language: the programs that it takes, and the words that start it, `{}` being the source.

    `build` is a shell line, for which the source is `$0`; `run` then has no `{}`. `probe` is a command that succeeds
    where the programs are new enough, which is from version `since` on.
    """

    programs: tuple[str, ...]
    run: tuple[str, ...]
    build: str = ""
    probe: tuple[str, ...] = ()
    since: str = ""
    environment: tuple[tuple[str, str], ...] = ()


class Language(Value):
    """One row. `memory_bytes` and `profile` are what its toolchain needs for the smallest program, where that is more than
    the usual limit and the usual system calls; what a request says wins.
    """

    name: str
    also: tuple[str, ...]
    file: str
    suffixes: tuple[str, ...]
    toolchains: tuple[Toolchain, ...]
    install: str
    memory_bytes: int | None = None
    profile: str | None = None


class Program(Value):
    """Code made into a request's fields."""

    command: tuple[str, ...]
    files: Mapping[str, str]
    environment: Mapping[str, str]
    memory_bytes: int | None
    profile: str | None


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


_BUILT = "/tmp/main"  # beside no file of the workspace, which may be read-only and is collected from
# Deno keeps a cache in the home directory, which is the workspace, looks for new versions, and colours what no terminal shows.
_DENO = {"NO_COLOR": "1", "DENO_DIR": "/tmp/deno", "DENO_NO_UPDATE_CHECK": "1"}
# Modules off: a single file has none. Caches and settings would lie in the workspace. There is no network to fetch from.
_GO = {
    "GO111MODULE": "off",
    "GOTOOLCHAIN": "local",
    "GOCACHE": "/tmp/go-build",
    "GOPATH": "/tmp/go",
    "XDG_CONFIG_HOME": "/tmp/config",
}
# Strict about types, silent about what a lone file cannot have; CommonJS, since that is what a lone `.js` is to Node.
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
        # every right inside: the walls are the sandbox's
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
        # those first that need no second file; Node alone takes out the types from 22.6 on
        toolchains=(
            _tool("deno", "deno run --quiet --allow-all {}", **_DENO),
            _tool("bun", "bun run {}"),
            _tool("tsx", "tsx {}"),
            _tool("tsc node", "node /tmp/main/{stem}.js", build=_TSC),
            _tool("node", f"node {_STRIP} {{}}", probe=f"node {_STRIP} --eval 0", since="22.6"),
        ),
        install="node-typescript",
        profile="build",  # Deno asks for its threads' scheduling, and complains on stderr without
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
        profile="build",  # it makes a timer for its threads, and complains on stderr without
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
        # -lm: whoever includes math.h expects it
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
        # compiles in memory and runs; `javac` shows that it is a JDK. The serial collector starts with few threads.
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
        profile="build",  # Go starts programs with dup3, the compiler among them
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
    """The row of a name or of one of its other names. Raises CapsuleError E1003, E1005."""
    word = check_string(name, label)
    found = _ALSO.get(word.lower())
    if found is None:
        guess = nearest(word.lower(), _ALSO)
        why = f"unknown language {shown(word)}" + (f"; did you mean `{guess}`?" if guess else "")
        raise refuse("E1005", label, why, hint="known languages: " + ", ".join(LANGUAGES))
    return found


def language_of_file(path: str) -> Language | None:
    """The row that a file's name tells, if any."""
    name = path.rpartition("/")[2]
    return next((one for one in _TABLE if name.endswith(one.suffixes) and name not in one.suffixes), None)


def toolchain(row: Language, works: Callable[[Toolchain], bool]) -> Toolchain:
    """The first of a language's toolchains that works. Raises CapsuleError E1010."""
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
    """Code as what a request has to say. `file` is the name of the source, if not the language's usual one."""
    tools = toolchain(row, works)
    name = file or _usual_file(code, row)
    source = f"./{name}" if name.startswith("-") else name
    stem = name.rpartition(".")[0]
    run = [word.replace("{stem}", stem).replace("{}", source) for word in tools.run]
    # The shell's exit code is the compiler's when that fails. No name is ever a part of the line: `$0` is the source.
    build = ("sh", "-c", f'{tools.build} && exec "$@"', source) if tools.build else ()
    return Program(
        command=(*build, *run, *arguments),
        files={name: code},
        environment=dict(tools.environment),
        memory_bytes=row.memory_bytes,
        profile=row.profile,
    )


def _usual_file(code: str, row: Language) -> str:
    """The language's file name; an ES module by another, which Node before 22.7 does not see from its text."""
    if row.name != "javascript" or "require(" in code:
        return row.file
    is_module = any(line.startswith(("import ", "import{", "export ", "export{")) for line in code.splitlines())
    return "main.mjs" if is_module else row.file
