"""The direction of dependency and the sizes of design section 4, read from the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "capsule_run"
CORE = REPOSITORY / "core"

RANKS = {
    "_value": 0, "codes": 0, "errno_words": 0, "shortage": 0,
    "errors": 0, "statuses": 0, "model": 0, "printable": 0, "result": 0, "birth": 1,
    "diagnosis": 1, "hostfacts": 2, "attacks": 3,
    "inputs": 1, "patterns": 1, "transfer": 1,
    "applying": 2, "changes": 2, "outlet": 2, "masks": 2, "duplicate": 2,
    "collecting": 2, "cover": 1, "delivery": 2, "hostfile": 2, "treewalk": 2, "exchange": 2, "removal": 2, "upper": 2,
    "account": 1, "attestation": 1, "checks": 1, "confinement": 1, "data": 1,
    "fastjson": 0, "arguments": 1, "jsonapi": 1, "plan": 1, "policy": 1, "seccomp": 1, "sizes": 1,
    "evidence": 1, "groups": 1, "postmortem": 2, "ledger": 2, "counters": 1, "prometheus": 1, "monitor": 3, "measure": 2,
    "report": 1, "result_parts": 0, "result_reader": 0, "notebook": 0, "verdict": 1, "view": 1, "wallhints": 1, "words": 1,
    "profile_file": 2, "refusals": 2,
    "cgroup": 2, "cgroup2": 2, "core": 2, "disks": 2, "host": 2, "ids": 2, "links": 2, "machine": 2,
    "members": 2, "missing": 2, "outcome": 2, "paths": 2, "shims": 2, "tools": 2,
    "aio": 4, "cancel": 3, "terms": 3, "room": 3, "runner": 3, "sinks": 3,
    "languages": 1, "program": 3, "telling": 4,
    "__main__": 4, "_bundle": 4, "bundling": 4, "cli": 4, "config": 4, "integrations": 4, "sdk": 4, "server": 4,
    "tooling": 4, "variables": 4,
    "seccomp.generate": 4,  # a developer's door: writes the compiled tables into data/
}  # fmt: skip

# All that ranks 0 and 1 may import besides each other: nothing here can touch a file, a clock, a process or the network.
PURE = {
    "__future__", "_json", "_sha2", "_sha256",  # what hashlib wraps
    "binascii", "collections", "collections.abc", "enum", "functools", "itertools", "json", "math",
    "operator", "re", "struct", "typing",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "breakpoint"}

# The core is the only process that Python ever makes (style 12), and `core.py` the only place that makes it.
STARTS_A_PROCESS = {"posix_spawn", "posix_spawnp", "fork_exec"}
NEVER = {"fork", "forkpty", "system", "popen"}
SYSTEM_MODULES = {"os", "posix", "_posixsubprocess"}
NEVER_IMPORTED = {"subprocess", "multiprocessing", "pty", "concurrent.futures", "_multiprocessing"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
C_FILES = sorted([*CORE.glob("*.c"), *CORE.glob("*.h")])


def name_of(path):
    """capsule_run/seccomp/rule.py → "seccomp.rule"; the package itself → ""."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


NAMES = {name_of(path) for path in MODULES}
modules = pytest.mark.parametrize("path", MODULES, ids=lambda path: name_of(path) or "__init__")


def tree_of(path):
    return ast.parse(path.read_text(), str(path))


def imports(path):
    """Every import that can happen at run time: dotted names, ours without "capsule_run."; those for types cost nothing."""
    found = set()
    waiting = [tree_of(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= imported_from(node, path)
        waiting += ast.iter_child_nodes(node)
    return {name.removeprefix("capsule_run.") for name in found}


def imported_from(node, path):
    base = node.module or ""
    if node.level:
        parents = path.relative_to(PACKAGE).parent.parts
        above = parents[: len(parents) - node.level + 1]
        base = ".".join(["capsule_run", *above, *([base] if base else [])])
    # `from . import seccomp` names a module, `from .seccomp import compiled` something in one
    return {
        f"{base}.{alias.name}" if f"{base}.{alias.name}".removeprefix("capsule_run.") in NAMES else base
        for alias in node.names
    }


def is_ours(name):
    return name in NAMES or name == "capsule_run"


def rank(name):
    return RANKS.get(name, RANKS[name.partition(".")[0]])


def called(tree):
    """Names of everything that is called, `a.b.c()` as "c"."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in calls if isinstance(f, ast.Attribute | ast.Name)}


def system_names(tree):
    """Every name of `os` and its like, called or not: a function that is handed on can be called elsewhere."""
    nodes = list(ast.walk(tree))
    attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) in SYSTEM_MODULES}
    froms = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module in SYSTEM_MODULES]
    return attributes | {alias.name for node in froms for alias in node.names}


@modules
def test_module_has_a_rank(path):
    """A new module has to say where it belongs."""
    assert name_of(path) == "" or name_of(path).partition(".")[0] in RANKS


@modules
def test_imports_point_down(path):
    """A module imports nothing of a higher rank than its own."""
    name = name_of(path)
    own = rank(name) if name else -1
    assert [] == sorted(
        other for other in imports(path) if is_ours(other) and other != "capsule_run" and rank(other) > own
    )


def test_no_circle():
    """Modules of one rank may use each other, but not in a circle."""
    uses = {name_of(path): {n for n in imports(path) if n in NAMES} - {name_of(path)} for path in MODULES}
    while True:
        leaves = {name for name, others in uses.items() if not others & uses.keys()}
        if not leaves:
            break
        uses = {name: others for name, others in uses.items() if name not in leaves}
    assert {} == uses


@modules
def test_ranks_0_and_1_are_pure(path):
    """No rank 0 or 1 module can touch the system: not through what it imports, not through a built-in."""
    if name_of(path) and rank(name_of(path)) > 1:
        return
    foreign = {name for name in imports(path) if not is_ours(name)}
    assert set() == foreign - PURE
    assert set() == called(tree_of(path)) & IMPURE_CALLS


@modules
def test_no_process_but_the_core(path):
    """Python starts the core, in one module, and nothing else; it never forks."""
    seen = system_names(tree_of(path))
    assert set() == imports(path) & NEVER_IMPORTED
    assert set() == {name for name in seen if name in NEVER or name.startswith(("exec", "spawn"))}
    if name_of(path) != "core":
        assert set() == seen & STARTS_A_PROCESS


def test_init_has_no_logic():
    """`__init__` holds public names and their lazy look-up, nothing else."""
    body = tree_of(PACKAGE / "__init__.py").body
    assert {"__getattr__", "__dir__"} >= {
        node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert set() == imports(PACKAGE / "__init__.py") - {"__future__"}


def test_every_public_name_resolves():
    """Each name of `__all__` is where the look-up says, and importing the package loads none of them."""
    script = (
        "import sys, capsule_run; print(*(name for name in sys.modules if name.startswith('capsule_run.'))); "
        "[getattr(capsule_run, name) for name in capsule_run.__all__]"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=PACKAGE.parent
    )
    assert "" == said.stderr
    assert "\n" == said.stdout


@modules
def test_module_is_under_400_lines(path):
    """A module fits in a head. Data tables are as long as what they list."""
    if name_of(path).partition(".")[0] != "data":
        assert len(path.read_text().splitlines()) < 400


@modules
def test_python_function_fits_a_screen(path):
    """No function is over 60 lines, its parameters and docstring aside: these have one line for each parameter."""
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {} == {f.name: lines for f in functions if (lines := code_lines(f)) > 60}


def code_lines(function):
    """The lines of a function's own statements."""
    first = function.body[1] if ast.get_docstring(function) is not None and len(function.body) > 1 else function.body[0]
    return function.end_lineno - first.lineno + 1


def c_functions(path):
    """Name → lines, in kernel style: a signature, then an opening and a closing brace alone in the first column."""
    lines = path.read_text().splitlines()
    sizes = {}
    for start, line in enumerate(lines):
        if line == "{":
            signature = next(n for n in range(start - 1, -1, -1) if re.match(r"\w", lines[n]))
            end = lines.index("}", start)
            sizes[lines[signature]] = end - signature + 1
    return sizes


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_c_function_fits_a_screen(path):
    """No C function is over 60 lines."""
    assert {} == {name: lines for name, lines in c_functions(path).items() if lines > 60}


def test_c_is_few_files():
    """The core is at most 17 files, the header among them (docs/decisions/core-size.md)."""
    assert len(C_FILES) <= 17


def test_c_is_small():
    """The core can be read in one sitting: at most 5,300 lines, header aside (docs/decisions/core-size.md)."""
    assert sum(len(path.read_text().splitlines()) for path in C_FILES if path.suffix == ".c") <= 5300


def test_the_checks_can_fail(tmp_path, monkeypatch):
    """Each reader above sees what it is there to see."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    sample = tmp_path / "plan.py"
    sample.write_text(
        "import os\nfrom . import core\nfrom .host import x\nimport capsule_run.cli\n"
        "if TYPE_CHECKING:\n    from .room import Room\n"
        "def f():\n    from .runner import run\n    os.fork()\n    open('x')\n"
    )
    assert {"os", "core", "host", "cli", "runner"} == imports(sample)
    assert {"fork", "open"} == called(tree_of(sample))
    assert {"fork"} == system_names(tree_of(sample))
    source = tmp_path / "long.c"
    source.write_text("static int f(int a,\n\tint b)\n{\n" + "\treturn 0;\n" * 60 + "}\n")
    assert {"static int f(int a,": 64} == c_functions(source)
