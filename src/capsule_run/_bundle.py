"""How the command begins: its modules, compiled and in one file, so that a one-shot run need not find each of them.

Rank 4. Finding, opening and checking one module costs importlib a tenth of a millisecond, and a run needs twenty. The file
lies in `__pycache__` beside the compiled modules that it repeats, and is trusted as they are: an entry is used only while
its source has the time and size that it was compiled from, the owner of the package alone writes it, and without it
everything works, later.

Layout: the interpreter's magic number, the length of the index (4 bytes, little-endian), the index (marshal: name to
source, time, size, offset, length; and what a run needs before its room is begun, each module behind those that it imports),
and the code of each module (marshal). docs/decisions/bundle.md says why.
"""

from __future__ import annotations

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has it, for 2 ms
from _frozen_importlib_external import MAGIC_NUMBER, FileLoader, spec_from_file_location  # likewise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    Entry = tuple[str, int, int, int, int]

_HEAD = 8
_FIRST_FREE = 3  # descriptor
_FIRST_READ = 1 << 14  # the index of a hundred modules and more
_DIRECTORY = __file__.rpartition("/")[0]
_PACKAGE = "capsule_run"
_OURSELVES = f"{_PACKAGE}._bundle"
_AFTERWARDS = f"{_PACKAGE}.confinement"  # the first that a run imports while its room is being built
PATH = f"{_DIRECTORY}/__pycache__/bundle.{sys.implementation.cache_tag}"


class Beside:
    """Finds the package where we lie, without a look through every directory of the path."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != _PACKAGE:
            return None
        return spec_from_file_location(name, f"{_DIRECTORY}/__init__.py", submodule_search_locations=[_DIRECTORY])


class Bundle:
    """Finder and loader of the modules in one file (importlib.abc.MetaPathFinder, importlib.abc.Loader)."""

    def __init__(self, fd: int) -> None:
        """Keeps `fd`. Raises ValueError, EOFError or TypeError for what is no bundle of this interpreter."""
        self._fd = fd
        head = posix.pread(fd, _FIRST_READ, 0)
        size = int.from_bytes(head[4:_HEAD], "little")
        if head[:4] != MAGIC_NUMBER or len(head) < _HEAD + size:
            raise ValueError("another interpreter's, or cut")
        self.index: dict[str, Entry]
        self.always: tuple[str, ...]
        self.index, self.always = marshal.loads(head[_HEAD : _HEAD + size])  # noqa: S302  # see above
        self.imported: list[str] = []  # each behind those that it imports
        self._codes = _HEAD + size
        self._loaded: dict[str, CodeType] = {}

    def code(self, name: str) -> bytes:
        """The marshalled code of a module that is in the index."""
        *_stamp, offset, length = self.index[name]
        return posix.pread(self._fd, length, self._codes + offset)

    def load(self, name: str) -> CodeType | None:
        """The code of a module that is in the index; None where it is damaged."""
        try:
            code: CodeType = marshal.loads(self.code(name))  # noqa: S302  # see above
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return code

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        entry = self.index.get(name)
        if entry is None or _stamp(entry[0]) != entry[1:3]:
            return None
        code = self.load(name)
        if code is None:
            self.index.clear()  # nothing of it is used any more, and `keep` writes another
            return None
        self._loaded[name] = code
        path = f"{_DIRECTORY}/{entry[0]}"
        spec = ModuleSpec(name, self, origin=path, is_package=path.endswith("/__init__.py"))  # type: ignore[arg-type]  # it is one by what it has
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        spec.has_location = True  # so that `__file__` is set
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """As every module is made."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self._loaded.pop(module.__name__), module.__dict__)  # noqa: S102  # what an import is
        self.imported.append(module.__name__)

    def _made(self, name: str) -> ModuleType | None:
        """A module as importlib makes it, not yet executed; None where its source is not what was compiled."""
        spec = self.find_spec(name)
        if spec is None:
            return None
        module = type(sys)(name)
        module.__spec__, module.__loader__, module.__package__ = spec, self, spec.parent  # type: ignore[assignment]  # as above
        module.__file__ = spec.origin
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        return module

    def import_always(self) -> None:
        """Import what a run needs at once, which importlib would find one by one, half of the time for itself.

        It stops where something is not as it was: the usual import goes on from there.
        """
        waiting: dict[str, ModuleType] = {}  # packages, for what is in them comes first
        for name in self.always:
            if name in sys.modules and name not in waiting:
                continue
            package, _dot, last = name.rpartition(".")
            if package and package not in sys.modules:
                above = self._made(package)
                if above is None:
                    break
                waiting[package] = sys.modules[package] = above
            module = waiting.pop(name, None) or self._made(name)
            if module is None:
                break
            sys.modules[name] = module
            self.exec_module(module)
            if package:
                setattr(sys.modules[package], last, module)
        for name in waiting:
            del sys.modules[name]

    def first(self, last: str) -> tuple[str, ...]:
        """What was imported before `last`; nothing where that was not."""
        names = self.imported
        return tuple(names[: names.index(last)]) if last in names else ()


def _stamp(source: str) -> tuple[int, int]:
    try:
        status = posix.stat(f"{_DIRECTORY}/{source}")
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size


def use() -> Bundle | None:
    """Take our modules from the bundle from now on, where there is one for this interpreter."""
    try:
        fd = posix.open(PATH, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    if fd < _FIRST_FREE:  # a standard stream is closed: its number is not ours, and may be put to its use
        posix.close(fd)
        return None
    try:
        bundle = Bundle(fd)
    except (OSError, ValueError, EOFError, TypeError):
        posix.close(fd)
        return None
    sys.meta_path.insert(0, bundle)
    return bundle


def begin() -> None:
    """The command, from here to its end."""
    gc.disable()  # one short run makes no garbage that is worth looking for
    if _PACKAGE not in sys.modules:
        # the *end* of the path: nothing installed beside us can take the place of a standard module
        sys.path.append(_DIRECTORY.rpartition("/")[0])
        sys.meta_path.insert(0, Beside)
    bundle = use()
    if bundle is not None:
        sys.excepthook = tell
        bundle.import_always()
    from capsule_run.cli import main

    status = main()
    keep(bundle)
    # everything is written and closed: skip the interpreter's own clearing up, which costs a millisecond
    posix._exit(status)  # noqa: SLF001  # its documented name


def keep(used: Bundle | None) -> None:
    """Write down what this process has imported of ours, if that is more than the bundle in use had. Never raises OSError.

    The first start that has all of it from a bundle and runs a command says what is wanted always, and in which order.
    """
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE}
    fresh = [name for name, module in ours.items() if not isinstance(_loader(module), Bundle) and name != _OURSELVES]
    always = () if used is None else used.always or used.first(_AFTERWARDS)
    if sys.dont_write_bytecode or not (fresh or used is None or used.always != always):
        return
    try:
        if posix.stat(f"{_DIRECTORY}/__pycache__").st_uid == posix.geteuid():
            _write(_encoded(_entries(ours, used), always))
    except OSError:
        return  # a read-only tree, a full disk: it will go on as before


def _loader(module: ModuleType) -> object:
    return getattr(getattr(module, "__spec__", None), "loader", None)


def _entries(ours: dict[str, ModuleType], used: Bundle | None) -> dict[str, tuple[str, int, int, bytes]]:
    """Those in use stay, with what was just compiled in addition or in their place."""
    entries = {}
    if used is not None:
        entries = {name: (*entry[:3], used.code(name)) for name, entry in used.index.items() if used.load(name)}
    for name, module in ours.items():
        path = module.__file__
        if (name in entries and isinstance(_loader(module), Bundle)) or path is None or name == _OURSELVES:
            continue
        source = path[len(_DIRECTORY) + 1 :]
        stamp = _stamp(source)
        text = FileLoader(name, path).get_data(path)
        entries[name] = (source, *stamp, marshal.dumps(_without_lines(_compiled(text, path))))
    return entries


def _compiled(text: bytes, path: str) -> CodeType:
    """Without documentation, which is a tenth of it."""
    return compile(text, path, "exec", dont_inherit=True, optimize=2)


def _without_lines(code: CodeType) -> CodeType:
    """And without the table of line numbers, which is a quarter; `tell` finds them again."""
    inner = tuple(_without_lines(one) if hasattr(one, "co_code") else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=inner)


def _line(code: CodeType, instruction: int) -> int:
    """The line of an instruction, from the source if the code has no table of its own; 0 where that is not to be had."""
    if code.co_linetable:
        codes = [code]
    else:
        try:
            codes = [_compiled(FileLoader(code.co_name, code.co_filename).get_data(code.co_filename), code.co_filename)]
        except (OSError, SyntaxError, ValueError):
            return 0
    for one in codes:  # which grows
        if (one.co_name, one.co_firstlineno, one.co_code) == (code.co_name, code.co_firstlineno, code.co_code):
            return next((line or 0 for start, end, line in one.co_lines() if start <= instruction < end), 0)
        codes += [inner for inner in one.co_consts if hasattr(inner, "co_code")]
    return 0


def tell(_kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """sys.excepthook: an exception that nobody expected, with the lines that the bundle leaves out."""
    import traceback  # it has happened: time does not matter any more

    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        tell(type(before), before, None)
        print("\nThen this came of it:\n", file=sys.stderr)
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append((code.co_filename, _line(code, trace.tb_lasti), code.co_name, None))
        trace = trace.tb_next
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
    print("".join([*lines, *traceback.format_exception_only(error)]), end="", file=sys.stderr)


def _encoded(entries: dict[str, tuple[str, int, int, bytes]], always: tuple[str, ...]) -> bytes:
    index: dict[str, Entry] = {}
    offset = 0
    for name, (source, time, size, code) in entries.items():
        index[name] = (source, time, size, offset, len(code))
        offset += len(code)
    head = marshal.dumps((index, always))
    return b"".join((MAGIC_NUMBER, len(head).to_bytes(4, "little"), head, *(entry[3] for entry in entries.values())))


def _write(data: bytes) -> None:
    """Whole or not at all: a reader never sees half of it."""
    path = f"{PATH}.{posix.getpid()}"
    fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    try:
        if posix.write(fd, data) == len(data):
            posix.rename(path, PATH)
            return
        posix.unlink(path)
    except OSError:
        posix.unlink(path)
        raise
    finally:
        posix.close(fd)
