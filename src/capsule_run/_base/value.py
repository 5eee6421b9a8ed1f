"""Immutable keyword-only values without the price of `dataclasses` (15 ms of imports, measured in bench/).

Type checkers see a frozen, keyword-only dataclass; at run time a class costs one pass over its annotations, once.
Rank 0: imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN202  # checkers read the other one
        return lambda cls: cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Value:
    """An annotated class that is one of these is an immutable value, whose fields are given by keyword.

    A default must itself be immutable, since all values share it. Raises TypeError for a missing or unknown field when a
    value is made.
    """

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _names: ClassVar[frozenset[str]]
        _defaults: ClassVar[dict[str, object]]

    @classmethod
    def _prepare(cls) -> None:
        """Look at what a class declares, when its first value is made: a run makes few of the values that there are."""
        fields = tuple(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  # inspect costs 8 ms
        cls._names = frozenset(fields)
        cls._defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
        cls._fields = fields  # last: another thread that sees it sees the others

    def __init__(self, **given: object) -> None:
        kind = type(self)
        if "_fields" not in kind.__dict__:
            self._prepare()
        fields = self._defaults | given
        if fields.keys() != self._names:
            for name in self._fields:
                if name not in fields:
                    raise TypeError(f"{kind.__name__}() needs `{name}`")
            unknown = next(name for name in fields if name not in self._names)
            raise TypeError(f"{kind.__name__}() has no field `{unknown}`")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"`{type(self).__name__}` is immutable: cannot set `{name}`")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"`{type(self).__name__}` is immutable: cannot delete `{name}`")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(cls: type, fields: dict[str, object]) -> object:
    return cls(**fields)


def replace(old: T, **changes: object) -> T:
    """A copy of the value `old` with some fields changed."""
    return type(old)(**(old.__dict__ | changes))
