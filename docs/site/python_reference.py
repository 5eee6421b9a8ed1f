"""Generate the Python reference from the source: signature, fields and docstring of every public name.

Reads syntax trees and imports nothing, so that the interfaces for frameworks are described where no framework is installed.
Called by `hooks`, when the site is built, and by tests/docs/test_reference.py.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[2] / "src"
# Each module with public names, and its heading.
MODULES = {
    "capsule_run": "Commands, sandboxes and pools",
    "capsule_run.aio": "The same with asyncio",
    "capsule_run.contexts": "Interpreters that keep their variables",
    "capsule_run.model": "Values of a request",
    "capsule_run.monitor": "Audit log and metrics",
    "capsule_run.tooling": "Tools for agents",
    "capsule_run.integrations.openai": "OpenAI: Chat Completions and Responses",
    "capsule_run.integrations.anthropic": "Anthropic: Messages",
    "capsule_run.integrations.langchain": "LangChain",
    "capsule_run.integrations.openai_agents": "OpenAI Agents SDK",
}
# What the calls above return or have as attributes: each module, and those of its names that a user meets.
VALUES = {
    "capsule_run.sandbox.process": ("Process",),
    "capsule_run.sandbox.files": ("Files",),
    "capsule_run.sandbox.streams": ("Lines", "OutputStream"),
    "capsule_run.sandbox.snapshot": ("Snapshot",),
    "capsule_run.sandbox.box": ("SandboxInfo",),
    "capsule_run.sandbox.pool": ("PoolStats",),
    "capsule_run.model.cell": ("CellResult", "CellError", "RichResult", "Logs"),
    "capsule_run.model.changes": ("Change", "NotApplied"),
    "capsule_run.model.result_parts": ("Output", "CollectedFile", "NotCollected"),
    "capsule_run.aio.files": ("Files",),
    "capsule_run.aio.streams": ("InputStream", "OutputStream"),
}
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Found(NamedTuple):
    """A public name: the module that defines it, and its node. `comment` is the documentation of a constant."""

    module: str
    node: ast.stmt
    comment: str = ""


def _file(module: str) -> Path | None:
    stem = SOURCE.joinpath(*module.split("."))
    return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.exists()), None)


@cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    """The statements of a module, also those for type checkers only."""
    path = _file(module)
    body = ast.parse(path.read_text()).body if path else []
    inner = [line for node in body if isinstance(node, ast.If) for line in node.body]
    return (*body, *inner)


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [element for target in targets for element in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [name.id for name in names if isinstance(name, ast.Name)]


def public_names(module: str) -> list[str]:
    """The names in `__all__`, or, without one, all that the module defines without an underscore."""
    for node in _statements(module):
        if "__all__" in _assigned(node) and isinstance(node, ast.Assign):
            return [name for name in ast.literal_eval(node.value) if not name.startswith("_")]
    defined = [node.name for node in _statements(module) if isinstance(node, Definition)]
    defined += [name for node in _statements(module) for name in _assigned(node)]
    return [name for name in defined if not name.startswith("_") and name != "TYPE_CHECKING"]


def find(module: str, name: str) -> Found | None:
    """Follow imports within the package to the definition of a name."""
    for number, node in enumerate(_statements(module)):
        if isinstance(node, Definition) and node.name == name:
            return Found(module, node)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("capsule_run"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find(node.module, alias.name)
        if name in _assigned(node) and (made := find(module, f"_{name}")) and isinstance(made.node, Definition):
            return made  # a function that gets its public name below its definition
        if name in _assigned(node):
            return Found(module, node, _comment(module, node, _statements(module)[number + 1 : number + 2]))
    return None


def _comment(module: str, node: ast.stmt, after: tuple[ast.stmt, ...]) -> str:
    """What documents an assignment: the text below it, the comment behind it, or the comment lines above it."""
    if after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant):
        return str(after[0].value.value)
    path = _file(module)
    lines = path.read_text().splitlines() if path else []
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    behind = re.search(r"  # (.*)$", lines[last])
    if behind and not behind[1].startswith("noqa"):
        return behind[1]
    above = []
    while first and lines[first - 1].startswith("# "):
        first -= 1
        above.insert(0, lines[first].removeprefix("# "))
    return "\n".join(above)


def members(found: Found) -> list[tuple[str, Found]]:
    """The public methods and properties of a class, those of base classes in the package included, in order."""
    assert isinstance(found.node, ast.ClassDef)
    own = [
        (node.name, Found(found.module, node))
        for node in found.node.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]
    own = [(name, member) for name, member in own if not _is_setter(member.node)]
    names = {name for name, _ in own}
    for base in found.node.bases:
        above = find(found.module, base.id) if isinstance(base, ast.Name) else None
        if above and isinstance(above.node, ast.ClassDef):
            own += [(name, member) for name, member in members(above) if name not in names]
            names = {name for name, _ in own}
    return own


def _is_setter(node: ast.stmt) -> bool:
    return any(ast.unparse(line).endswith((".setter", ".deleter")) for line in getattr(node, "decorator_list", []))


def _is_property(node: ast.stmt) -> bool:
    return any("property" in ast.unparse(line) for line in getattr(node, "decorator_list", []))


def field_documentation(module: str, name: str) -> dict[str, str]:
    """What documents each field and property of a class, by name."""
    found = find(module, name)
    assert found is not None
    assert isinstance(found.node, ast.ClassDef)
    body = found.node.body
    texts = {key: docstring(member) for key, member in members(found) if _is_property(member.node)}
    for number, node in enumerate(body):
        texts |= {key: _comment(found.module, node, tuple(body[number + 1 : number + 2])) for key in _assigned(node)}
    return {key: " ".join(text.split()) for key, text in texts.items()}


def docstring(found: Found) -> str:
    """The documentation of a name; "" if there is none."""
    if isinstance(found.node, Definition):
        return ast.get_docstring(found.node) or ""
    return found.comment


def described() -> list[tuple[str, str]]:
    """Every name on the page, with its module."""
    return [(module, name) for module in MODULES for name in public_names(module)] + [
        (module, name) for module, names in VALUES.items() for name in names
    ]


def undocumented() -> list[str]:
    """Every name of the page, method or property that is not found or has no documentation."""
    missing = []
    for module, name in described():
        found = find(module, name)
        if found is None or not docstring(found):
            missing.append(f"{module}.{name}")
        if found and isinstance(found.node, ast.ClassDef):
            missing += [f"{module}.{name}.{key}" for key, member in members(found) if not docstring(member)]
    return missing


# --- rendering --------------------------------------------------------------------------------------------------------


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool) -> list[str]:
    """Each argument as it is written, with the marks `/` and `*`, without `self`."""
    given, parts = node.args, []
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    for number, (argument, default) in enumerate(zip(positional, defaults, strict=True), 1):
        parts.append(_argument(argument, default))
        if number == len(given.posonlyargs):
            parts.append("/")
    if is_method and not any("staticmethod" in ast.unparse(line) for line in node.decorator_list):
        del parts[0]
    if given.vararg or given.kwonlyargs:
        parts.append(f"*{ast.unparse(given.vararg)}" if given.vararg else "*")
    parts += [_argument(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*parts, f"**{ast.unparse(given.kwarg)}"] if given.kwarg else parts


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool = False) -> str:
    """`name(arguments) -> annotation`, an argument a line if it is long."""
    arguments = _arguments(node, is_method=is_method)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    line = f"{start}{name}({', '.join(arguments)}){returns}"
    if len(line) <= 100:
        return line
    return f"{start}{name}(\n" + "".join(f"    {part},\n" for part in arguments) + f"){returns}"


def _fields(found: Found) -> list[str]:
    """The fields of a value class, with their types, defaults and documentation."""
    assert isinstance(found.node, ast.ClassDef)
    rows, body = [], found.node.body
    for number, node in enumerate(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            default = f" = {ast.unparse(node.value)}" if node.value else ""
            about = " ".join(_comment(found.module, node, tuple(body[number + 1 : number + 2])).split())
            rows.append(
                f"- `{node.target.id}: {ast.unparse(node.annotation)}{default}`" + (f": {about}" if about else "")
            )
    return rows


def _prose(text: str) -> str:
    """A docstring as Markdown: `:param name:` and `:raises NAME:` become a list."""
    text = re.sub(r":param (\w+):", r"- `\1`:", text)
    text = re.sub(r":returns?:", "- Returns", text)
    text = re.sub(r":raises (\w+):", r"- Raises `\1`:", text)
    text = re.sub(r"^(?!- )(.+)\n(?=- )", r"\1\n\n", text, flags=re.MULTILINE)
    return re.sub(r"^(- .*(?:\n(?:- |  ).*)*)\n\n(?=- )", r"\1\n", text, flags=re.MULTILINE)


def _entry(module: str, name: str) -> list[str]:
    found = find(module, name)
    if found is None:
        return []
    lines = [f"### {name} {{ #{module}.{name} }}", ""]
    if isinstance(found.node, ast.ClassDef):
        start = next((node for node in found.node.body if getattr(node, "name", "") == "__init__"), None)
        shown = _signature(name, start, is_method=True).removesuffix(" -> None") if start else f"class {name}"  # type: ignore[arg-type]
        lines += ["```python", shown, "```", "", _prose(docstring(found)), "", *_fields(found), ""]
        for key, member in members(found):
            assert isinstance(member.node, ast.FunctionDef | ast.AsyncFunctionDef)
            returns = f": {ast.unparse(member.node.returns)}" if member.node.returns else ""
            shown = f"{key}{returns}" if _is_property(member.node) else _signature(key, member.node, is_method=True)
            lines += [f"#### {name}.{key} {{ #{module}.{name}.{key} }}", "", "```python", shown, "```", ""]
            lines += [_prose(docstring(member)), ""]
    elif isinstance(found.node, Definition):
        lines += ["```python", _signature(name, found.node), "```", "", _prose(docstring(found)), ""]
    else:
        lines += ["```python", ast.unparse(found.node), "```", "", docstring(found), ""]
    return lines


def page() -> str:
    """The page: each module with its public names."""
    lines = ["# Python", "", "Every public name, generated from the signatures and docstrings of the source.", ""]
    for module, heading in MODULES.items():
        lines += [f"## {heading}", "", f"`from {module} import …`", ""]
        for name in public_names(module):
            lines += _entry(module, name)
    lines += [
        "## What calls return",
        "",
        "These are not imported; calls return them, and objects have them as attributes.",
        "",
    ]
    for module, names in VALUES.items():
        for name in names:
            lines += _entry(module, name)
    return "\n".join(lines)
