"""Start the command with its compiled modules from one file, the bundle, instead of finding each module.

importlib takes 0.1 ms to find, open and check a module, and a run needs twenty. The bundle lies in `__pycache__` beside the
compiled modules that it repeats, and is trusted like them: an entry is used only if its source has the time and size that it
was compiled from, and only the owner of the package writes the bundle. Without it everything works, but more slowly.

A run imports in stages: what it needs before the launcher can build the room, then what `engine.prefetch` imports while the
launcher works. The modules of a stage are read in one piece and imported without importlib.

`_bundle_writer` writes the bundle. Layout: the interpreter's magic number; the length of the index (4 bytes, little-endian);
the index (marshal: name to source, time, size, offset, length; the modules of each stage, each after those that it imports;
the length of each stage's code); the code of each stage (marshal, as one tuple); the code of each other module (marshal).
docs/decisions/bundle.md has the reasons. This module imports nothing from `__future__`, which would have to be found before
there is a bundle.
"""

import _thread
import gc
import marshal
import posix
import sys
import time
from _frozen_importlib import ModuleSpec  # importing importlib.machinery costs 2 ms
from _frozen_importlib_external import MAGIC_NUMBER, spec_from_file_location  # as above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    Entry = tuple[str, int, int, int, int]

_HEAD = 8
_INIT = "/__init__.py"
_FIRST_FREE = 3  # descriptor
_FIRST_READ = 1 << 14  # the index of a hundred modules
DIRECTORY = __file__.rpartition("/")[0]
PACKAGE = "capsule_run"
PATH = f"{DIRECTORY}/__pycache__/bundle.{sys.implementation.cache_tag}"


class PackageFinder:
    """Finder for our package in the directory of this file, without searching `sys.path`."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> "ModuleSpec | None":
        if name != PACKAGE:
            return None
        return spec_from_file_location(name, f"{DIRECTORY}/__init__.py", submodule_search_locations=[DIRECTORY])


class Bundle:
    """Finder and loader of the modules in one file (importlib.abc.MetaPathFinder, importlib.abc.Loader)."""

    def __init__(self, fd: int) -> None:
        """Read the index; owns `fd`. Raises ValueError, EOFError or TypeError if it is no bundle of this interpreter."""
        self._fd = fd
        head = posix.pread(fd, _FIRST_READ, 0)
        size = int.from_bytes(head[4:_HEAD], "little")
        if len(head) == _FIRST_READ:
            head += posix.pread(fd, max(0, _HEAD + size - _FIRST_READ), _FIRST_READ)
        if head[:4] != MAGIC_NUMBER or len(head) < _HEAD + size:
            raise ValueError("another interpreter's, or cut")
        self.index: dict[str, Entry]
        self.stages: tuple[tuple[str, ...], ...]
        self._sizes: tuple[int, ...]
        self.index, self.stages, self._sizes = marshal.loads(head[_HEAD : _HEAD + size])  # noqa: S302  # see above
        self.imported: list[list[str]] = []  # of each stage that has begun: each after those that it imports
        self.is_outdated = not self.stages  # a module of ours is missing or out of date
        self._codes = _HEAD + size
        self._loaded: dict[str, CodeType] = {}

    def stage_codes(self, stage: int) -> "dict[str, CodeType]":
        """Return the code of the modules of a stage.

        Raises OSError, ValueError, EOFError or TypeError if the bundle is damaged.
        """
        start = self._codes + sum(self._sizes[:stage])
        codes = marshal.loads(posix.pread(self._fd, self._sizes[stage], start))  # noqa: S302  # see above
        return dict(zip(self.stages[stage], codes, strict=True))

    def load(self, name: str) -> "CodeType":
        """Return the code of one module that is in no stage. Raises as `stage_codes` does."""
        *_stamp, offset, length = self.index[name]
        code: CodeType = marshal.loads(posix.pread(self._fd, length, self._codes + offset))  # noqa: S302  # see above
        return code

    def _discard(self) -> None:
        self.index.clear()  # use no more of it; `_bundle_writer` writes a new one
        self.is_outdated = True

    def _source(self, name: str) -> str | None:
        """Return the path of a module's source, and have its code in `_loaded`; None if the entry is missing or out of date."""
        entry = self.index.get(name)
        if entry is None or stamp(entry[0]) != entry[1:3]:
            self.is_outdated |= name.startswith(f"{PACKAGE}.")
            return None
        if name not in self._loaded:
            # a changed source can import a module earlier than its stage does
            stage = next((number for number, names in enumerate(self.stages) if name in names), None)
            try:
                self._loaded |= {name: self.load(name)} if stage is None else self.stage_codes(stage)
            except (OSError, ValueError, EOFError, TypeError):
                self._discard()
                return None
        return f"{DIRECTORY}/{entry[0]}"

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        path = self._source(name)
        if path is None:
            return None
        spec = ModuleSpec(name, self, origin=path, is_package=path.endswith(_INIT))  # type: ignore[arg-type]  # it has the methods of a loader
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path.removesuffix(_INIT))
        spec.has_location = True  # sets `__file__`
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """Use the default: an empty module."""

    def exec_module(self, module: "ModuleType") -> None:
        exec(self._loaded.pop(module.__name__), module.__dict__)  # noqa: S102  # as an import does
        self.imported[-1].append(module.__name__)

    def _new_module(self, name: str, package: str) -> "ModuleType | None":
        """Return a module, not yet executed; None if the bundle's entry is missing or out of date.

        It is as importlib creates it, but without `__spec__`, which costs as much as the rest, and which nothing reads.
        """
        path = self._source(name)
        if path is None:
            return None
        module = type(sys)(name)
        module.__loader__, module.__file__, module.__package__ = self, path, package  # type: ignore[assignment]  # as above
        if path.endswith(_INIT):
            module.__package__, module.__path__ = name, [path.removesuffix(_INIT)]
        return module

    def import_stage(self) -> None:
        """Import the modules that a run needs next, without importlib, which would take as long again.

        Stops at the first module that is out of date: the ordinary import continues from there. Does nothing where there
        are other threads, which would use a module before it is complete: only importlib makes them wait for it.
        """
        stage = len(self.imported)
        self.imported.append([])
        if stage >= len(self.stages) or _thread._count():  # noqa: SLF001  # a running thread that is not the main one
            return
        try:
            self._loaded = self.stage_codes(stage)
        except (OSError, ValueError, EOFError, TypeError):
            self._discard()
            return
        # packages that are created but not executed: their modules are executed before them
        waiting: dict[str, ModuleType] = {}
        for name in self.stages[stage]:
            if name in sys.modules and name not in waiting:
                continue
            package, _dot, last = name.rpartition(".")
            if package and package not in sys.modules:
                above = self._new_module(package, "")
                if above is None:
                    break
                waiting[package] = sys.modules[package] = above
            module = waiting.pop(name, None) or self._new_module(name, package)
            if module is None:
                break
            sys.modules[name] = module
            self.exec_module(module)
            if package:
                setattr(sys.modules[package], last, module)
        for name in waiting:
            del sys.modules[name]


def stamp(source: str) -> tuple[int, int]:
    """Return time (ns) and size (bytes) of a source; (0, -1) if it is gone."""
    try:
        status = posix.stat(f"{DIRECTORY}/{source}")
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size


def use() -> Bundle | None:
    """Import our modules from the bundle from now on; None if there is no valid one for this interpreter."""
    try:
        fd = posix.open(PATH, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    if fd < _FIRST_FREE:  # a standard stream is closed: a bundle with its number would be used as that stream
        posix.close(fd)
        return None
    try:
        bundle = Bundle(fd)
    except (OSError, ValueError, EOFError, TypeError):
        posix.close(fd)
        return None
    sys.meta_path.insert(0, bundle)
    return bundle


_LAST_MESSAGE = b"capsule-run: E6007: an unexpected internal error\n"
_NO_MEMORY = b"capsule-run: E6003: capsule-run itself is out of memory\n"
_LAST_RESPONSE = (
    '{"execution_id":"00000000-0000-4000-8000-000000000000","status":"error","error":{"code":"E6007","category":"system",'
    '"message":"an unexpected internal error","cause":"internal","details":{}},"started_at":"NOW","finished_at":"NOW"}\n'
)


def _write(fd: int, text: bytes) -> None:
    try:
        posix.write(fd, text)
    except OSError:
        pass  # nobody reads it


def crash(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """End with one line or one response, also if reporting fails (a `sys.excepthook`). Never prints a traceback to stdout."""
    status = 130
    if not issubclass(kind, KeyboardInterrupt):
        status = 125
        try:
            from capsule_run.cli.crash import print_crash

            status = print_crash(error)
        except SystemExit as end:  # the response could not be written
            status = end.code if isinstance(end.code, int) else 125
        except BaseException:  # noqa: BLE001  # the last resort
            answers = sys.modules.get("capsule_run.cli.output")
            if "--json" in sys.argv and not (answers and answers.progress.begun):
                now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
                _write(1, _LAST_RESPONSE.replace("NOW", now).encode())
            else:
                _write(2, _NO_MEMORY if issubclass(kind, MemoryError) else _LAST_MESSAGE)
    posix._exit(status)  # noqa: SLF001  # its documented name


def begin(frozen: "Bundle | None" = None) -> None:
    """Run the command; does not return.

    :param frozen: our modules in the static file (packaging/static/begin.py), which has no others.
    """
    sys.excepthook = crash
    gc.disable()  # a short run makes too little garbage to collect
    if frozen is None and PACKAGE not in sys.modules:
        # the *end* of the path: no package installed beside ours can replace a standard module
        sys.path.append(DIRECTORY.rpartition("/")[0])
        sys.meta_path.insert(0, PackageFinder)
    bundle = frozen or use()
    if bundle is not None:
        bundle.import_stage()
    from capsule_run.cli.command import main
    from capsule_run.engine import prefetch

    if bundle is not None:
        prefetch.import_stage = bundle.import_stage
    status = main()
    if bundle is None or bundle.is_outdated:
        from capsule_run._bundle_writer import keep

        keep(bundle, PATH, stamp)
    # everything is written and closed: skip the interpreter's finalization, which costs 1 ms
    posix._exit(status)  # noqa: SLF001  # its documented name
