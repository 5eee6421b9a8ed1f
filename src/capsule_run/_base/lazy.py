"""Modules that are loaded when they are used (PEP 562): a package lists in its `__init__` which of its modules wait, and why.

Users import them at the top of their file as usual, and get a stand-in that loads the module on its first use.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _Waiting:
    """Stands for a module until that is imported, and then hands everything on to it."""

    __slots__ = ("_module_name",)
    _module_name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_module_name", name)

    def __getattr__(self, attribute: str) -> object:
        return getattr(_loaded(self._module_name), attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        setattr(_loaded(self._module_name), attribute, value)

    def __delattr__(self, attribute: str) -> None:
        delattr(_loaded(self._module_name), attribute)

    def __dir__(self) -> list[str]:
        return dir(_loaded(self._module_name))


def _loaded(name: str) -> object:
    module = sys.modules.get(name)
    if module is None:
        __import__(name)
        module = sys.modules[name]
    return module


def loaded_when_used(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package whose `modules` wait: name → when the module is needed."""

    def stand_in(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module `{package}` has no attribute `{name}`")
        return _Waiting(f"{package}.{name}")

    return stand_in
