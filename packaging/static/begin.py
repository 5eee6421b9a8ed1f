"""Start the command in the static file: the counterpart of what core/command.c gives an installed Python (`begin`).

All modules are frozen (freeze.py). Those of a run are in three stages, which are read in one piece and imported without
importlib, as `_bundle` does it for an installed package.
"""

import _imp
import sys
from _frozen_importlib import ModuleSpec

# For each stage of a run its modules, each after those that it imports: names, and whether they are packages.
STAGES = _imp.get_frozen_object("_capsule_stages").co_consts


def _new_module(name, *, is_package):
    module = type(sys)(name)
    module.__package__ = name if is_package else name.rpartition(".")[0]
    if is_package:
        module.__path__ = []
    return module


class Stages:
    """Finder and loader of the modules of the stages: what `_bundle.begin` expects of a bundle."""

    is_outdated = False

    def __init__(self):
        self._next = 0
        self._codes = {}

    def _read(self, stage):
        codes = _imp.get_frozen_object(f"_capsule_stage_{stage}").co_consts
        self._codes |= zip([name for name, _ in STAGES[stage]], codes, strict=True)

    def import_stage(self):
        """Import the modules of the next stage that are not imported yet."""
        stage = self._next
        self._next += 1
        if stage >= len(STAGES):
            return
        self._read(stage)
        waiting = {}  # packages that are created but not executed: modules of theirs are executed before them
        modules = sys.modules
        for name, is_package in STAGES[stage]:
            if name in modules and name not in waiting:
                continue
            package, _, last = name.rpartition(".")
            if package and package not in modules:
                waiting[package] = modules[package] = _new_module(package, is_package=True)
            module = waiting.pop(name, None) or _new_module(name, is_package=is_package)
            modules[name] = module
            exec(self._codes.pop(name), module.__dict__)
            if package:
                setattr(modules[package], last, module)
        for name in waiting:
            del modules[name]

    def find_spec(self, name, _path=None, _target=None):
        """Find a module of a stage that is imported before its stage."""
        for number, stage in enumerate(STAGES):
            for found, is_package in stage:
                if found == name:
                    if name not in self._codes:
                        self._read(number)
                    return ModuleSpec(name, self, origin="frozen", is_package=is_package)
        return None

    def create_module(self, _spec):
        """Use the default: an empty module."""

    def exec_module(self, module):
        exec(self._codes.pop(module.__name__), module.__dict__)


def begin():
    """Run the command; does not return."""
    name = "capsule_run._bundle"
    bundle = sys.modules[name] = _new_module(name, is_package=False)
    bundle.__file__ = "/proc/self/exe"  # nothing is read from there
    exec(_imp.get_frozen_object(name), bundle.__dict__)
    stages = Stages()
    sys.meta_path.append(stages)
    bundle.begin(stages)


begin()
