"""Immutable keyword-only values without the price of `dataclasses` (15 ms of imports, measured in bench/).

Type checkers see a frozen, keyword-only dataclass; at run time a class costs one pass over its annotations.
Rank 0: imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN202  # checkers read the other one
        return lambda function: function


class Frozen:
    """What every value shares: equality and a readable form by field, and no assignment after birth."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _defaults: dict[str, object] = {}  # noqa: RUF012  # each value class gets its own; this one stays empty

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"`{type(self).__name__}` is immutable: cannot set `{name}`")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"`{type(self).__name__}` is immutable: cannot delete `{name}`")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inner})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), {name: getattr(self, name) for name in self._fields})


def _rebuild(cls: type, fields: dict[str, object]) -> object:
    return cls(**fields)


def _init(self: Frozen, **given: object) -> None:
    store = object.__setattr__
    for name in self._fields:
        if name in given:
            store(self, name, given.pop(name))
        elif name in self._defaults:
            store(self, name, self._defaults[name])
        else:
            raise TypeError(f"{type(self).__name__}() needs `{name}`")
    if given:
        raise TypeError(f"{type(self).__name__}() has no field `{next(iter(given))}`")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """Make of an annotated class an immutable value whose fields are given by keyword.

    A default must itself be immutable, since all values share it.
    Raises TypeError for a missing or unknown field when a value is made.
    """
    fields = tuple(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  # inspect costs 8 ms
    defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
    kept = {
        name: member
        for name, member in cls.__dict__.items()
        if name not in defaults and name not in ("__dict__", "__weakref__")
    }
    kept.update(__slots__=fields, _fields=fields, _defaults=defaults, __init__=_init)
    return type(cls.__name__, (Frozen,), kept)


def replace(old: T, **changes: object) -> T:
    """A copy of the value `old` with some fields changed."""
    fields: dict[str, object] = {name: getattr(old, name) for name in old._fields}  # type: ignore[attr-defined]  # every value has them
    fields.update(changes)
    return type(old)(**fields)
