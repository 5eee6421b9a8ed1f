"""Immutable keyword-only values without `dataclasses`, whose import costs 15 ms (measured in bench/).

Type checkers see a frozen, keyword-only dataclass. At run time each class reads its annotations once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, TypeVar, dataclass_transform

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

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _names: ClassVar[frozenset[str]]
        _defaults: ClassVar[dict[str, object]]

    @classmethod
    def _prepare(cls) -> None:
        """Read the fields of a class when its first value is made: a run uses few of the classes."""
        fields = tuple(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  # inspect costs 8 ms
        cls._names = frozenset(fields)
        cls._defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
        cls._fields = fields  # set last: another thread that sees it also sees the others

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
    """Return a copy of the value `old` with some fields changed."""
    return type(old)(**(old.__dict__ | changes))
