"""Import modules on first use (PEP 562): a package lists in its `__init__` its lazy modules, and when each is needed.

Other modules import them at the top of the file as usual, and get a stand-in that imports the module on first use.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _Waiting:
    """A stand-in for a module: imports it on first use, and forwards every attribute access to it."""

    __slots__ = ("_module", "_module_name")
    _module: object | None
    _module_name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_module", None)
        object.__setattr__(self, "_module_name", name)

    def __getattr__(self, attribute: str) -> object:
        return getattr(_loaded(self), attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        setattr(_loaded(self), attribute, value)

    def __delattr__(self, attribute: str) -> None:
        delattr(_loaded(self), attribute)

    def __dir__(self) -> list[str]:
        return dir(_loaded(self))


def _loaded(waiting: _Waiting) -> object:
    module = waiting._module  # noqa: SLF001  # its own file
    if module is None:
        # Not `sys.modules` alone: that has a module before it is complete, and only an import waits for another thread's.
        __import__(waiting._module_name)  # noqa: SLF001
        module = sys.modules[waiting._module_name]  # noqa: SLF001
        object.__setattr__(waiting, "_module", module)
    return module


def loaded_when_used(
    package: str, modules: Mapping[str, str], *, public: Mapping[str, str] | None = None
) -> Callable[[str], object]:
    """Return the `__getattr__` of a package.

    :param modules: its lazy modules: name → when the module is needed.
    :param public: what the package itself has of them: name → the module that defines it, which is imported on first use.
    """
    homes = public or {}

    def attribute(name: str) -> object:
        found: object
        if name in homes:
            found = getattr(__import__(f"{package}.{homes[name]}", fromlist=[name]), name)
        elif name in modules:
            found = _Waiting(f"{package}.{name}")
        else:
            raise AttributeError(f"module `{package}` has no attribute `{name}`")
        # kept where the import of a module puts the module itself: anyone who asks next need not come here
        return sys.modules[package].__dict__.setdefault(name, found)

    return attribute
