"""Start the command: `python -m capsule_run`, or this file as a script. `_bundle.begin` does the rest.

The native command (core/command.c) starts without a script, which Python would compile each time.
"""

import sys

if __package__:
    from capsule_run import _bundle
else:  # run with `-I -S`, which skips `site` and `.pth` files; the package is not importable yet
    from _frozen_importlib_external import SourceFileLoader

    _bundle = sys.modules["capsule_run._bundle"] = type(sys)("capsule_run._bundle")
    _bundle.__file__ = __file__.replace("__main__", "_bundle")
    _loader = SourceFileLoader(_bundle.__name__, _bundle.__file__)
    exec(_loader.get_code(_bundle.__name__), _bundle.__dict__)  # type: ignore[arg-type]  # noqa: S102  # as an import does; a source file has code

if __name__ == "__main__":
    _bundle.begin()
