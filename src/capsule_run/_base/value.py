"""Immutable keyword-only values without `dataclasses`, whose import costs 15 ms (measured in bench/).

Type checkers see a frozen, keyword-only dataclass. At run time each class reads its annotations once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN202  # type checkers read the other one
        return lambda cls: cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Value:
    """Base class of immutable values. The annotations of a subclass are its fields, which are given by keyword.

    A default must itself be immutable, since all values share it. The constructor raises TypeError for a missing or unknown
    field.
    """

    def __init__(self, **given: object) -> None:
        names, defaults = _fields_of.get(type(self)) or _read_fields(type(self))
        fields = defaults | given if defaults else given
        if fields.keys() != names:
            kind = type(self).__name__
            for name in type(self).__annotations__:
                if name not in fields:
                    raise TypeError(f"{kind}() needs `{name}`")
            unknown = next(name for name in fields if name not in names)
            raise TypeError(f"{kind}() has no field `{unknown}`")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"`{type(self).__name__}` is immutable: cannot set `{name}`")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"`{type(self).__name__}` is immutable: cannot delete `{name}`")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in type(self).__annotations__)))

    def __repr__(self) -> str:
        fields = ", ".join([f"{name}={getattr(self, name)!r}" for name in type(self).__annotations__])
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


# The names of the fields and the defaults of each class of which there was a value: a run uses few of the classes.
_fields_of: dict[type, tuple[frozenset[str], dict[str, object]]] = {}


def _read_fields(kind: type[Value]) -> tuple[frozenset[str], dict[str, object]]:
    own = kind.__dict__
    names = own.get("__annotations__", {})
    fields = _fields_of[kind] = frozenset(names), {name: own[name] for name in names if name in own}
    return fields


def _rebuild(cls: type, fields: dict[str, object]) -> object:
    return cls(**fields)


def replace(old: T, **changes: object) -> T:
    """Return a copy of the value `old` with some fields changed."""
    return type(old)(**(old.__dict__ | changes))
