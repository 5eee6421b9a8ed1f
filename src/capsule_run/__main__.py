"""Where `capsule-run` and `python -m capsule_run` begin.

The native launcher runs this very file with `-I -S`, so that neither `site` nor any `.pth` file is paid for; then the
package is not importable yet. Its parent goes to the *end* of the path: nothing installed beside us can take the place
of a standard module.
"""

from __future__ import annotations

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

gc.disable()  # one short run makes no garbage that is worth looking for

if not __package__:
    from _frozen_importlib_external import spec_from_file_location  # importlib.util has it, for 2 ms

    DIRECTORY = __file__.rpartition("/")[0]
    sys.path.append(DIRECTORY.rpartition("/")[0])

    class Beside:
        """Finds the package and its bundle where we lie, without a look through every directory of the path."""

        @staticmethod
        def find_spec(name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
            if name == "capsule_run":
                return spec_from_file_location(name, f"{DIRECTORY}/__init__.py", submodule_search_locations=[DIRECTORY])
            return spec_from_file_location(name, f"{DIRECTORY}/_bundle.py") if name == "capsule_run._bundle" else None

    sys.meta_path.insert(0, Beside)

from capsule_run import _bundle  # noqa: E402  # the path is ready only now

bundle = _bundle.use()

from capsule_run.cli import main  # noqa: E402  # the path is ready only now

if __name__ == "__main__":
    status = main()
    _bundle.keep(bundle)
    # everything is written and closed: skip the interpreter's own clearing up, which costs a millisecond
    posix._exit(status)  # noqa: SLF001  # its documented name
