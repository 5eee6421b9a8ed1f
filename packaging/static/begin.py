"""Start the command in the static file: the counterpart of what core/command.c gives an installed Python (`begin`).

All modules are frozen (freeze.py). Those of a run are in three stages, which are read in one piece and imported without
importlib, as `_bundle` does it for an installed package. The others are compressed, each for itself.
"""

import _imp
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

from _capsule_static import getxattr, release_pages, unpack

posix.getxattr = getxattr  # CPython leaves it out where the C library is not glibc

# For each stage of a run its modules, each after those that it imports: names, and whether they are packages.
STAGES = _imp.get_frozen_object("_capsule_stages").co_consts
PACKAGES = {name for stage in STAGES for name, is_package in stage if is_package}
BUNDLE = "capsule_run._bundle"


def new_module(name):
    """Return a module, not yet executed."""
    module = type(sys)(name)
    module.__package__ = name.rpartition(".")[0]
    if name in PACKAGES:
        module.__package__, module.__path__ = name, []
    return module


bundle = sys.modules[BUNDLE] = new_module(BUNDLE)
bundle.__file__ = "/proc/self/exe"  # nothing is read from there
exec(_imp.get_frozen_object(BUNDLE), bundle.__dict__)


class Stages(bundle.Bundle):
    """The frozen modules of the stages as a bundle, which has no file and is never out of date."""

    def __init__(self):
        self.stages = [[name for name, _ in stage] for stage in STAGES]
        self.imported = []
        self.is_outdated = False
        self._loaded = {}

    def import_stage(self):
        """Import the next stage; after the last one the command runs, and this process waits with little in memory."""
        super().import_stage()
        if len(self.imported) == len(self.stages):
            release_pages()

    def stage_codes(self, stage):
        """Return the code of the modules of a stage."""
        codes = _imp.get_frozen_object(f"_capsule_stage_{stage}").co_consts
        return dict(zip(self.stages[stage], codes, strict=True))

    def _new_module(self, name, _package):
        return new_module(name)

    def _load_packed(self, name):
        """Have the code of a compressed module in `_loaded`; return whether there is one of this name."""
        found = unpack(name)
        if found is None:
            return False
        code, is_package = found
        self._loaded[name] = marshal.loads(code)
        if is_package:
            PACKAGES.add(name)
        return True

    def find_spec(self, name, _path=None, _target=None):
        """Find a compressed module, or one of a stage that is imported before its stage."""
        stage = next((number for number, names in enumerate(self.stages) if name in names), None)
        if name not in self._loaded:
            if stage is not None:
                self._loaded |= self.stage_codes(stage)
            elif not self._load_packed(name):
                return None
        return ModuleSpec(name, self, origin="frozen", is_package=name in PACKAGES)


stages = Stages()
sys.meta_path.append(stages)
bundle.begin(stages)
