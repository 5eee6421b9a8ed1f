"""An interpreter that has started and imported before its code comes, for one run.

What runs inside reads the code from its stdin, which then is at its end. The code is `__main__`, and finds what it would find
in an interpreter that was started for it, but for the modules that are imported already.
"""

from __future__ import annotations

import keyword

from capsule_run._base.errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PREPARED_PYTHON = ("python3", "-")

# Runs inside. Modules that are missing are left to the code, whose import tells what is missing in its own words.
_DRIVER = """
def _prepared():
    import linecache, sys

    def show(kind, error, trace):
        while trace is not None and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)

    for name in sys.argv[1:]:
        try:
            __import__(name)
        except ImportError:
            pass
    code = sys.stdin.buffer.read()
    sys.argv[:] = ["-"]
    sys.excepthook = show
    linecache.cache["<stdin>"] = (len(code), None, code.decode("utf-8", "replace").splitlines(True), "<stdin>")
    del globals()["_prepared"]
    return compile(code, "<stdin>", "exec")


exec(_prepared())
"""


def prepared_command(preload: Sequence[str]) -> tuple[str, ...]:
    """Return the command of an interpreter that imports modules and then waits for its code.

    Raises CapsuleError E1005 for what is no name of a module.
    """
    for name in preload:
        if not all(_is_name(part) for part in str(name).split(".")):
            raise CapsuleError("E1005", f"`preload`: {name!r} is not the name of a module")
    return ("python3", "-c", _DRIVER, *preload)


def _is_name(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)
