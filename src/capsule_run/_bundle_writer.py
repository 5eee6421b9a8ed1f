"""Write the bundle of `_bundle`.

Imported only at the end of a command that imported a module of ours from elsewhere.
"""

from __future__ import annotations

import ast
import marshal
import posix
import sys
from _frozen_importlib_external import MAGIC_NUMBER, FileLoader  # importing importlib.machinery costs 2 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType

    from capsule_run._bundle import Bundle, Entry

    Stages = tuple[tuple[str, ...], ...]
    Stamp = Callable[[str], tuple[int, int]]
    Stamped = tuple[str, int, int, CodeType]

_DIRECTORY = __file__.rpartition("/")[0]
_PACKAGE = __name__.partition(".")[0]
_READER = f"{_PACKAGE}._bundle"
_STAGES = 3  # of a run that needs no measurements: the room's, the payload's, the result's
_COMMAND_LINE, _OPTIONS, _SUBCOMMAND = f"{_PACKAGE}.cli.command", f"{_PACKAGE}.request.options", f"{_PACKAGE}.cli.exec"
_ANNOTATIONS = 0x1000000  # __future__.annotations.compiler_flag


def keep(used: Bundle | None, path: str, stamp: Stamp) -> None:
    """Write a bundle of the modules that this process has imported, if the bundle in use lacks some. Never raises OSError.

    The first start that imports everything from the bundle and runs a command decides which modules the stages have.
    """
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE}
    fresh = [name for name, module in ours.items() if not _is_from(used, module) and name != _READER]
    stages: Stages = ()
    if used is not None and used.index and not any(name in used.index for name in fresh):
        stages = used.stages or _stages(used.imported)
    if sys.dont_write_bytecode or not (fresh or used is None or used.stages != stages):
        return
    try:
        if posix.stat(path.rpartition("/")[0]).st_uid == posix.geteuid():
            entries = _entries(ours, used, stamp)
            _write(
                path, _encoded(entries, tuple([tuple([name for name in stage if name in entries]) for stage in stages]))
            )
    except OSError:
        return  # a read-only tree or a full disk: commands run as before


def _stages(imported: list[list[str]]) -> Stages:
    """Return the modules of the stages of a run, without those for options; nothing if no command ran."""
    if len(imported) < _STAGES or any(_SUBCOMMAND in names for names in imported):
        return ()
    first, *others = ([name for name in names if name != __name__] for names in imported[:_STAGES])
    if _OPTIONS in first:  # imported after the modules of the command line, and after everything that it imports itself
        del first[first.index(_COMMAND_LINE) + 1 : first.index(_OPTIONS) + 1]
    return (tuple(first), *map(tuple, others))


def _is_from(used: Bundle | None, module: ModuleType) -> bool:
    return used is not None and getattr(module, "__loader__", None) is used


def _entries(ours: dict[str, ModuleType], used: Bundle | None, stamp: Stamp) -> dict[str, Stamped]:
    """Return the entries to write: the valid ones of the bundle in use, and newly compiled ones."""
    entries = {} if used is None else _valid_entries(used, stamp)
    for name, module in ours.items():
        path = module.__file__
        if (name in entries and _is_from(used, module)) or path is None or name == _READER:
            continue
        source = path[len(_DIRECTORY) + 1 :]
        now = stamp(source)
        text = FileLoader(name, path).get_data(path)
        entries[name] = (source, *now, _compiled(text, path))
    return entries


def _valid_entries(used: Bundle, stamp: Stamp) -> dict[str, Stamped]:
    right = [(name, entry) for name, entry in used.index.items() if stamp(entry[0]) == entry[1:3]]
    try:
        codes: dict[str, CodeType] = {}
        for stage in range(len(used.stages)):
            codes |= used.stage_codes(stage)
        return {name: (*entry[:3], codes.get(name) or used.load(name)) for name, entry in right}
    except (OSError, ValueError, EOFError, TypeError):
        return {}  # damaged: later starts compile again what they need


class _RuntimeOnly(ast.NodeTransformer):
    """Remove what only type checkers read, and the import of `__future__`, which the flag `_ANNOTATIONS` replaces."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Remove the block for TYPE_CHECKING."""
        self.generic_visit(node)
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            return node
        return node.orelse or ast.copy_location(ast.Pass(), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Remove the return type; nothing reads it at run time."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Remove the return type."""
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Remove the type."""
        node.annotation = None
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        """Remove the import of `__future__`."""
        return None if node.module == "__future__" else node


def _compiled(text: bytes, path: str) -> CodeType:
    """Compile without docstrings and annotations of functions, each a tenth of the code."""
    tree = _RuntimeOnly().visit(ast.parse(text, path))
    code: CodeType = compile(tree, path, "exec", flags=_ANNOTATIONS, dont_inherit=True, optimize=2)
    return code


def _encoded(entries: dict[str, Stamped], stages: Stages) -> bytes:
    codes = [marshal.dumps(tuple([entries[name][3] for name in stage])) for stage in stages]
    sizes = tuple(map(len, codes))
    in_stages = {name for stage in stages for name in stage}
    index: dict[str, Entry] = {}
    offset = sum(sizes)
    for name, (source, time, size, code) in entries.items():
        own_code = b"" if name in in_stages else marshal.dumps(code)
        index[name] = (source, time, size, offset, len(own_code))
        codes.append(own_code)
        offset += len(own_code)
    head = marshal.dumps((index, stages, sizes))
    return b"".join((MAGIC_NUMBER, len(head).to_bytes(4, "little"), head, *codes))


def _write(path: str, data: bytes) -> None:
    """Write a file atomically: a reader never sees half of it."""
    unfinished = f"{path}.{posix.getpid()}"
    fd = posix.open(unfinished, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    try:
        if posix.write(fd, data) == len(data):
            posix.rename(unfinished, path)
            return
        posix.unlink(unfinished)
    except OSError:
        posix.unlink(unfinished)
        raise
    finally:
        posix.close(fd)
