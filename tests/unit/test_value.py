"""Immutable values without `dataclasses`, and the import budget of everything that a request passes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from capsule_run._base.value import Value, replace
from capsule_run.model.request import Bind, Isolation, Request, Resources

SOURCE = Path(__file__).resolve().parents[2] / "src"
COSTLY = {
    "argparse", "collections", "contextlib", "dataclasses", "enum", "functools", "inspect", "json", "pathlib", "re",
    "subprocess", "typing",
}  # fmt: skip
MODULES = [
    *("_base.value", "_base.errors", "_base.strict_json", "model.request"),
    *("request.sizes", "request.validators", "request.parse", "request.options", "cli.help"),
]


class Point(Value):
    """A value to try."""

    x: int
    y: int = 2

    @property
    def sum(self):
        """Methods are kept."""
        return self.x + self.y


def test_value_fields_are_keywords_with_defaults():
    """Fields are given by keyword; one with a default may be left out."""
    assert (1, 2, 3) == (Point(x=1).x, Point(x=1).y, Point(x=1).sum)


def test_value_equality_is_by_type_and_fields():
    """Two values with equal fields are equal and hash alike; another field or another type is another value."""
    assert Point(x=1) == Point(x=1, y=2)
    assert hash(Point(x=1)) == hash(Point(x=1, y=2))
    assert Point(x=1) != Point(x=2)
    assert Bind(source="/a", destination="/b") != ("/a", "/b", "ro")


def test_value_is_immutable():
    """No field can be set, added or deleted."""
    point = Point(x=1)
    for change in (lambda: setattr(point, "x", 5), lambda: setattr(point, "z", 5), lambda: delattr(point, "x")):
        with pytest.raises(AttributeError, match="immutable"):
            change()
    assert Point(x=1) == point


@pytest.mark.parametrize(
    ("fields", "message"), [({}, "needs `x`"), ({"x": 1, "z": 3}, "no field `z`")], ids=["missing", "unknown"]
)
def test_value_missing_or_unknown_field_is_named(fields, message):
    """A missing and an unknown field are each named."""
    with pytest.raises(TypeError, match=message):
        Point(**fields)


def test_value_positional_argument_is_refused():
    """A field cannot be given by position."""
    with pytest.raises(TypeError):
        Point(1)


def test_value_replace_leaves_the_old_one():
    """`replace` makes a new value and leaves the old as it was."""
    point = Point(x=1)
    assert Point(x=1, y=7) == replace(point, y=7)
    assert Point(x=1) == point


def test_value_repr_is_the_constructor_call():
    """A value prints as what makes it."""
    assert "Point(x=1, y=2)" == repr(Point(x=1))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_value_copies_and_pickles_are_equal(copied):
    """A copy, a deep copy and a pickled one equal the value, nested values included."""
    request = Request(
        command=("true",),
        resources=Resources(max_pids=3),
        isolation=Isolation(binds=(Bind(source="/a", destination="/b"),)),
    )
    assert request == copied(request)


@pytest.mark.parametrize("module", MODULES)
def test_value_import_loads_nothing_expensive(module):
    """Importing a module of the request's road loads nothing that costs milliseconds."""
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); before = set(sys.modules); "
        f"import capsule_run.{module}; print(*sorted(set(sys.modules) - before))"
    )
    said = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    loaded = said.stdout.split()
    assert f"capsule_run.{module}" in loaded
    assert set() == COSTLY & set(loaded)
