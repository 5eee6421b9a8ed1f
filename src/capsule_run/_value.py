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


def _init(self: object, **given: object) -> None:
    fields: dict[str, object] = self._defaults | given  # type: ignore[attr-defined]  # set by `value`
    if fields.keys() != self._names:  # type: ignore[attr-defined]  # likewise
        names: tuple[str, ...] = self._fields  # type: ignore[attr-defined]  # likewise
        kind = type(self).__name__
        for name in names:
            if name not in fields:
                raise TypeError(f"{kind}() needs `{name}`")
        raise TypeError(f"{kind}() has no field `{next(name for name in fields if name not in names)}`")
    self.__dict__.update(fields)


def _set(self: object, name: str, _value: object) -> None:
    raise AttributeError(f"`{type(self).__name__}` is immutable: cannot set `{name}`")


def _delete(self: object, name: str) -> None:
    raise AttributeError(f"`{type(self).__name__}` is immutable: cannot delete `{name}`")


def _equal(self: object, other: object) -> bool:
    return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented


def _hash(self: object) -> int:
    names: tuple[str, ...] = self._fields  # type: ignore[attr-defined]  # set by `value`
    return hash((type(self), *(getattr(self, name) for name in names)))


def _repr(self: object) -> str:
    names: tuple[str, ...] = self._fields  # type: ignore[attr-defined]  # set by `value`
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def _reduce(self: object) -> tuple[object, ...]:
    return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(cls: type, fields: dict[str, object]) -> object:
    return cls(**fields)


_METHODS = (
    ("__init__", _init),
    ("__setattr__", _set),
    ("__delattr__", _delete),
    ("__eq__", _equal),
    ("__hash__", _hash),
    ("__repr__", _repr),
    ("__reduce__", _reduce),
)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """Make of an annotated class an immutable value whose fields are given by keyword.

    A default must itself be immutable, since all values share it. The class is changed in place: a second one, with
    slots, would cost as much as all the rest of the module that defines it.
    Raises TypeError for a missing or unknown field when a value is made.
    """
    fields = tuple(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  # inspect costs 8 ms
    cls._fields, cls._names = fields, frozenset(fields)  # type: ignore[attr-defined]  # what this decorator is for
    cls._defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}  # type: ignore[attr-defined]  # likewise
    for name, method in _METHODS:
        setattr(cls, name, method)
    return cls


def replace(old: T, **changes: object) -> T:
    """A copy of the value `old` with some fields changed."""
    return type(old)(**(old.__dict__ | changes))
