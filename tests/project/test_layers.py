"""The direction of dependency and the sizes of design section 4, read from the syntax trees."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "capsule_run"
CORE = REPOSITORY / "core"

LAYER_LINE = re.compile(r"^([\w ,/]+?)  +(pure|system|runs|interface|-)  +\S")
ROOT_FILES = {"__init__", "__main__", "_bundle", "_bundle_writer"}  # the start of the command, above everything


def layers():
    """Package → (its place in the order, its kind), from the list in CONTRIBUTING.md that people read."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    block = text.split("<!-- layers -->")[1].split("```")[1]
    found = {}
    for line in block.splitlines():
        match = LAYER_LINE.match(line)
        for name in match[1].split() if match else ():
            found[name.rstrip("/")] = (len(found), match[2])
    return found


LAYERS = layers()

# All that pure packages may import besides each other: nothing here can touch a file, a clock, a process or the network.
PURE = {
    "__future__", "_json", "_sha2", "_sha256",  # what hashlib wraps
    "binascii", "mmap", "collections", "collections.abc", "enum", "errno", "functools", "itertools", "json", "math",
    "operator", "re", "struct", "typing",
}  # fmt: skip
DEVELOPERS = {"seccomp.generate", "_base.lazy"}  # writes the compiled tables; imports modules by name
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "breakpoint"}

# The core is the only process that Python ever makes (style 12), and `launcher.py` the only place that makes it.
STARTS_A_PROCESS = {"posix_spawn", "posix_spawnp", "fork_exec"}
NEVER = {"fork", "forkpty", "system", "popen"}
SYSTEM_MODULES = {"os", "posix", "_posixsubprocess"}
INSIDE = "contexts.inside."  # programs that run in the sandbox, and are sent there as text
OLDEST_INSIDE = (3, 8)
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
    """Every import, those for types too: dotted names, ours without "capsule_run."."""
    found = set()
    waiting = [tree_of(path)]
    while waiting:
        node = waiting.pop()
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


def top(name):
    return name.partition(".")[0]


def place(name):
    return LAYERS.get(top(name), (len(LAYERS), ""))[0] if name not in ("", "capsule_run") else -1


def is_face(name):
    return (PACKAGE / name.replace(".", "/") / "__init__.py").exists()


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
def test_layer_of_every_module_is_listed(path):
    """A new package has to say in CONTRIBUTING.md where it belongs."""
    assert name_of(path) == "" or top(name_of(path)) in LAYERS.keys() | ROOT_FILES


@modules
def test_import_from_later_layer_is_refused(path):
    """A package imports only packages that stand before it; types count."""
    own = place(name_of(path)) if name_of(path) else len(LAYERS) + 1  # the face of all hands out what is public
    later = {
        other
        for other in imports(path)
        if is_ours(other) and other != "_bundle_writer" and place(other) > own and top(other) != top(name_of(path))
    }
    assert set() == later


def test_modules_form_no_circle():
    """Inside a package and between packages: no module needs itself, types included."""
    uses = {name_of(path): {n for n in imports(path) if n in NAMES} - {name_of(path)} for path in MODULES}
    uses["_bundle_writer"] -= {
        "_bundle"
    }  # its types; both are one trick in two files, so that only who writes loads the writer
    uses |= {
        name: set() for name in uses if is_face(name)
    }  # a face imports nothing; what it hands out is loaded when used
    while True:
        leaves = {name for name, others in uses.items() if not others & uses.keys()}
        if not leaves:
            break
        uses = {name: others for name, others in uses.items() if name not in leaves}
    assert {} == uses


@modules
def test_pure_package_touches_no_system(path):
    """No module of a pure package can touch the system: not through what it imports, not through a built-in."""
    if LAYERS.get(top(name_of(path)), (0, ""))[1] != "pure" or name_of(path) in DEVELOPERS:
        return
    foreign = {name for name in imports(path) if not is_ours(name)}
    assert set() == foreign - PURE
    assert set() == called(tree_of(path)) & IMPURE_CALLS


def test_package_has_a_short_face():
    """Each package says in at most ten lines what it provides, and which module to read first."""
    faces = {path: ast.get_docstring(tree_of(path)) or "" for path in MODULES if path.name == "__init__.py"}
    assert {} == {str(path): doc for path, doc in faces.items() if not 0 < len(doc.splitlines()) <= 10}


def test_top_of_package_is_seen_at_a_glance():
    """At most 22 names at the top of the package, private ones and the marker for type checkers aside."""
    names = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("_") and path.name != "py.typed"}
    assert len(names) <= 22, sorted(names)


@modules
def test_process_start_is_in_one_module_only(path):
    """Python starts the core, in one module, and nothing else; it never forks."""
    if name_of(path).startswith(INSIDE):
        return
    seen = system_names(tree_of(path))
    assert set() == imports(path) & NEVER_IMPORTED
    assert set() == {name for name in seen if name in NEVER or name.startswith(("exec", "spawn"))}
    if name_of(path) != "launcher":
        assert set() == seen & STARTS_A_PROCESS


@modules
def test_program_for_the_sandbox_stands_alone(path):
    """What runs in the sandbox imports only the standard library, and nobody imports it; old interpreters can read it."""
    assert set() == {name for name in imports(path) if name.startswith(INSIDE)}
    if name_of(path).startswith(INSIDE):
        assert set() == {name for name in imports(path) if name.split(".")[0] not in sys.stdlib_module_names}
        ast.parse(path.read_text(), feature_version=OLDEST_INSIDE)


def test_init_has_no_logic():
    """`__init__` holds public names and their lazy look-up, nothing else."""
    body = tree_of(PACKAGE / "__init__.py").body
    assert {"__getattr__", "__dir__"} >= {
        node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert {"__future__", "sys"} >= {name for name in imports(PACKAGE / "__init__.py") if not is_ours(name)}


def test_public_names_resolve():
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


def test_help_lists_public_names_only():
    """`help(capsule_run)` documents the public names and lists no module; submodules are importable all the same."""
    script = (
        "import pydoc, capsule_run; text = pydoc.render_doc(capsule_run, renderer=pydoc.plaintext); "
        "import capsule_run.model, importlib, pkgutil; from capsule_run import aio; importlib.reload(capsule_run); "
        "import capsule_run.monitor, json; "
        "names = [module.name for module in pkgutil.iter_modules(capsule_run.__path__)]; "
        "print(json.dumps([text, dir(capsule_run), capsule_run.__all__, 'launcher' in names]))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    text, names, public, lists_modules = json.loads(said.stdout)
    assert (sorted(public), True) == (names, lists_modules)
    assert "PACKAGE CONTENTS" not in text
    headings = set(re.findall(r"^    (?:class )?(\w+)(?:\(.*)?$", text, re.MULTILINE))  # of classes and functions
    assert {*public} - {"__version__"} <= headings
    assert set() == headings & ({path.stem for path in PACKAGE.iterdir()} - {*public})


@modules
def test_module_is_under_400_lines(path):
    """A module fits in a head. Data tables are as long as what they list."""
    if not name_of(path).startswith("seccomp.tables."):
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


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_c_file_is_under_400_lines(path):
    """A file of the core is about one subject, and under 400 lines."""
    assert len(path.read_text().splitlines()) < 400


def c_budgets():
    """Budget → lines and files, from the table that people read."""
    table = REPOSITORY.joinpath("docs", "decisions", "core-size.md").read_text()
    rows = re.findall(r"^\| (\w[^|]*) \| ([\d,]+) \| (`[^|]*) \|$", table, re.MULTILINE)
    return {name: (int(lines.replace(",", "")), re.findall(r"`([\w.]+)`", files)) for name, lines, files in rows}


def test_c_budgets_name_every_file_once():
    """Each C file of the core counts against exactly one of the three budgets of docs/decisions/core-size.md."""
    budgets = c_budgets()
    assert {"builds the sandbox", "watches and reports", "the native command"} == budgets.keys()
    assert [path.name for path in C_FILES if path.suffix == ".c"] == sorted(
        name for _, files in budgets.values() for name in files
    )


@pytest.mark.parametrize("name", c_budgets())
def test_c_files_keep_to_their_budget(name):
    """The files of a budget together have no more lines than docs/decisions/core-size.md allows."""
    lines, files = c_budgets()[name]
    assert sum(len(CORE.joinpath(file).read_text().splitlines()) for file in files) <= lines


def test_layer_checks_can_fail(tmp_path, monkeypatch):
    """Each reader above sees what it is there to see."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    sample = tmp_path / "plan.py"
    sample.write_text(
        "import os\nfrom . import launcher\nfrom .host import x\nimport capsule_run.cli\n"
        "if TYPE_CHECKING:\n    from .api import Run\n"
        "def f():\n    from .engine import run\n    os.fork()\n    open('x')\n"
    )
    assert {"os", "launcher", "host", "cli", "engine", "api"} == imports(sample)
    assert {"fork", "open"} == called(tree_of(sample))
    assert {"fork"} == system_names(tree_of(sample))
    source = tmp_path / "long.c"
    source.write_text("static int f(int a,\n\tint b)\n{\n" + "\treturn 0;\n" * 60 + "}\n")
    assert {"static int f(int a,": 64} == c_functions(source)


PRINTS_DEFAULTS = {"cli.help", "request.option_table"}


def test_default_is_filled_in_policy():
    """Only `policy` fills what a request does not give: no other package uses a default but to print it."""
    users = set()
    for path in MODULES:
        froms = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in froms if node.module == "capsule_run.model.request" for alias in node.names]
        if any(name.startswith("DEFAULT_") for name in names):
            users.add(name_of(path))
    assert set() == {name for name in users if top(name) not in ("model", "policy")} - PRINTS_DEFAULTS
