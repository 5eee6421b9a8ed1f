"""How the command begins: its modules, compiled and in one file, so that a one-shot run need not find each of them.

Rank 4. Finding, opening and checking one module costs importlib a tenth of a millisecond, and a run needs twenty. The file
lies in `__pycache__` beside the compiled modules that it repeats, and is trusted as they are: an entry is used only while
its source has the time and size that it was compiled from, the owner of the package alone writes it, and without it
everything works, later.

`bundling` writes it. Layout: the interpreter's magic number, the length of the index (4 bytes, little-endian), the index
(marshal: name to source, time, size, offset, length; what a run needs before its room is begun, each module behind those
that it imports; the length of their code), their code (marshal, as one tuple), and the code of each other module (marshal).
docs/decisions/bundle.md says why. Here alone nothing comes from `__future__`: that is a module as well, and would have to be
found before there is a bundle.
"""

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has it, for 2 ms
from _frozen_importlib_external import MAGIC_NUMBER, spec_from_file_location  # likewise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    Entry = tuple[str, int, int, int, int]

_HEAD = 8
_FIRST_FREE = 3  # descriptor
_FIRST_READ = 1 << 14  # the index of a hundred modules and more
DIRECTORY = __file__.rpartition("/")[0]
PACKAGE = "capsule_run"
PATH = f"{DIRECTORY}/__pycache__/bundle.{sys.implementation.cache_tag}"


class Beside:
    """Finds the package where we lie, without a look through every directory of the path."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> "ModuleSpec | None":
        if name != PACKAGE:
            return None
        return spec_from_file_location(name, f"{DIRECTORY}/__init__.py", submodule_search_locations=[DIRECTORY])


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
        self.index, self.always, self._together = marshal.loads(head[_HEAD : _HEAD + size])  # noqa: S302  # see above
        self.imported: list[str] = []  # each behind those that it imports
        self.is_behind = not self.always  # something of ours is not in it, or is not what it was
        self._codes = _HEAD + size
        self._loaded: dict[str, CodeType] = {}

    def together(self) -> "dict[str, CodeType]":
        """The codes of what a run needs at once. Raises OSError, ValueError, EOFError or TypeError where they are damaged."""
        codes = marshal.loads(posix.pread(self._fd, self._together, self._codes))  # noqa: S302  # see above
        return dict(zip(self.always, codes, strict=True))

    def load(self, name: str) -> "CodeType":
        """The code of a module that is in the index by itself. Raises as `together` does."""
        *_stamp, offset, length = self.index[name]
        code: CodeType = marshal.loads(posix.pread(self._fd, length, self._codes + offset))  # noqa: S302  # see above
        return code

    def _is_damaged(self) -> None:
        self.index.clear()  # nothing of it is used any more, and `bundling` writes another
        self.is_behind = True

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        entry = self.index.get(name)
        if entry is None or stamp(entry[0]) != entry[1:3]:
            self.is_behind |= name.startswith(f"{PACKAGE}.")
            return None
        if name not in self._loaded:
            try:
                self._loaded[name] = self.load(name)
            except (OSError, ValueError, EOFError, TypeError):
                self._is_damaged()
                return None
        path = f"{DIRECTORY}/{entry[0]}"
        spec = ModuleSpec(name, self, origin=path, is_package=path.endswith("/__init__.py"))  # type: ignore[arg-type]  # it is one by what it has
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        spec.has_location = True  # so that `__file__` is set
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """As every module is made."""

    def exec_module(self, module: "ModuleType") -> None:
        exec(self._loaded.pop(module.__name__), module.__dict__)  # noqa: S102  # what an import is
        self.imported.append(module.__name__)

    def _made(self, name: str) -> "ModuleType | None":
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
        try:
            self._loaded = self.together()
        except (OSError, ValueError, EOFError, TypeError):
            self._is_damaged()
            return
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


def stamp(source: str) -> tuple[int, int]:
    """Time and size of a source; what no source has where it is gone."""
    try:
        status = posix.stat(f"{DIRECTORY}/{source}")
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


_LAST_WORDS = b"capsule-run: E6007: an unexpected internal error\n"
_NO_MEMORY = b"capsule-run: E6003: capsule-run itself is out of memory\n"
_LAST_ANSWER = (
    b'{"execution_id":"00000000-0000-4000-8000-000000000000","status":"error","error":{"code":"E6007","category":"system",'
    b'"message":"an unexpected internal error","cause":"internal","details":{}}}\n'
)


def _write(fd: int, text: bytes) -> None:
    try:
        posix.write(fd, text)
    except OSError:
        pass  # there is nobody to tell


def crash(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """sys.excepthook: end with one line, or one answer, whatever else fails. Standard output gets no traceback."""
    status = 130
    if not issubclass(kind, KeyboardInterrupt):
        status = 125
        try:
            from capsule_run.cli.crash import tell

            status = tell(error)
        except SystemExit as end:  # the answer could not be written
            status = end.code if isinstance(end.code, int) else 125
        except BaseException:  # noqa: BLE001  # nothing is left but this
            answers = sys.modules.get("capsule_run.cli.output")
            if "--json" in sys.argv and not (answers and answers.progress.begun):
                _write(1, _LAST_ANSWER)
            else:
                _write(2, _NO_MEMORY if issubclass(kind, MemoryError) else _LAST_WORDS)
    posix._exit(status)  # noqa: SLF001  # its documented name


def begin() -> None:
    """The command, from here to its end."""
    sys.excepthook = crash
    gc.disable()  # one short run makes no garbage that is worth looking for
    if PACKAGE not in sys.modules:
        # the *end* of the path: nothing installed beside us can take the place of a standard module
        sys.path.append(DIRECTORY.rpartition("/")[0])
        sys.meta_path.insert(0, Beside)
    bundle = use()
    if bundle is not None:
        bundle.import_always()
    from capsule_run.cli.command import main

    status = main()
    if bundle is None or bundle.is_behind:
        from capsule_run._bundle_writer import keep

        keep(bundle, PATH, stamp)
    # everything is written and closed: skip the interpreter's own clearing up, which costs a millisecond
    posix._exit(status)  # noqa: SLF001  # its documented name
