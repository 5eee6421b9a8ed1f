"""End what an object owns when nobody refers to it any more, or when the interpreter ends; not in a child that was forked."""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def finalizer(owner: object, end: Callable[[], object]) -> Callable[[], None]:
    """Call `end` once, when `owner` is collected, the interpreter ends or the returned function is called.

    Only in this process: what a child of `os.fork` has is a copy, whose end would be that of its parent's sandbox.
    """
    made_in = os.getpid()

    def end_here() -> None:
        if os.getpid() == made_in:
            end()

    found = weakref.finalize(owner, end_here)
    return lambda: found() and None
