"""Strict JSON by the C accelerator, held against `json`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError

SOURCE = Path(__file__).resolve().parents[2] / "src"
PROPERTY = settings(max_examples=50, database=None, deadline=None, derandomize=True)

texts = st.text(st.characters(codec=None), max_size=12)  # lone surrogates too
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
JSONISH = '{}[]",:0123456789.eE+-truefalsnNIity \\/bu\t\n\x00\x1f\ufeffé'


class InvalidError(Exception):
    """The oracle's way of refusing what `json` by itself accepts."""


def json_with_our_rules(text):
    """What `json` makes of a text with our extra rules, or InvalidError: the oracle."""

    def pairs(members):
        if len(dict(members)) != len(members):
            raise InvalidError
        return dict(members)

    def number(digits):
        if math.isinf(float(digits)):
            raise InvalidError
        return float(digits)

    def constant(_):
        raise InvalidError

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_float=number, parse_constant=constant)
    except ValueError:
        raise InvalidError from None


def verdict(parse, text):
    """Whether a parser takes a text, and what it makes of it."""
    try:
        return True, parse(text)
    except (InvalidError, CapsuleError):
        return False, None


def error_of(text):
    with pytest.raises(CapsuleError) as caught:
        strict_json.loads(text)
    assert caught.value.code == "E1001"
    return caught.value.message


@PROPERTY
@given(values)
def test_json_dumps_then_loads_is_equal(value):
    """What `dumps` writes, `loads` reads back, and it is ASCII."""
    text = strict_json.dumps(value, indent=None)
    assert text.isascii()
    assert value == strict_json.loads(text)


@PROPERTY
@given(values, st.sampled_from([0, 1, 2, 4]))
def test_json_dumps_equals_the_standard_library(value, indent):
    """On one line and indented, the text is the one that `json` writes."""
    assert json.dumps(value, separators=(",", ":")) == strict_json.dumps(value, indent=None)
    assert json.dumps(value, indent=indent) == strict_json.dumps(value, indent=indent)


@PROPERTY
@given(values, st.data())
def test_json_damaged_text_is_judged_as_the_standard_library_does(value, data):
    """Of a JSON text in which one letter was changed we think what `json` thinks, but for the extra strictness."""
    text = json.dumps(value)
    position = data.draw(st.integers(0, len(text)))
    damaged = text[:position] + data.draw(st.text(JSONISH, max_size=2)) + text[position + 1 :]
    assert verdict(json_with_our_rules, damaged) == verdict(strict_json.loads, damaged)


@PROPERTY
@given(st.text(JSONISH, max_size=30))
def test_json_noise_is_judged_as_the_standard_library_does(text):
    """Of arbitrary text made of JSON's letters we think what `json` thinks, but for the extra strictness."""
    assert verdict(json_with_our_rules, text) == verdict(strict_json.loads, text)


@PROPERTY
@given(values)
def test_json_fallback_and_accelerator_agree(value):
    """The fall-back reads and writes the same as the accelerator."""
    text = json.dumps(value)
    assert strict_json.loads(text) == strict_json._slow_loads(text)
    assert strict_json._fast_dumps(value) == strict_json._slow_dumps(value)


REFUSED = [
    ("", "malformed JSON at line 1 column 1: expecting value"),
    ("{", "malformed JSON at line 1 column 2: expecting property name enclosed in double quotes"),
    ('{"a": 1,\n  b}', "malformed JSON at line 2 column 3: expecting property name enclosed in double quotes"),
    ("1 2", "malformed JSON at line 1 column 3: extra data"),
    ("{}\n\n{}", "malformed JSON at line 3 column 1: extra data"),
    ('"a\nb"', "malformed JSON at line 1 column 3: invalid control character at"),
    ("NaN", "malformed JSON at line 1 column 1: `NaN` is not JSON"),
    ('{"NaN": "Infinity",\n "b": -Infinity}', "malformed JSON at line 2 column 7: `-Infinity` is not JSON"),
    ("[1, 1e999]", "malformed JSON at line 1 column 5: number too large"),
    ("[-1.5E+999]", "malformed JSON at line 1 column 2: number too large"),
    ("[" + "1" * 5000 + "]", "malformed JSON at line 1 column 2: number too large"),
    ('{"a": 1, "a": 2}', 'malformed JSON at line 1 column 10: duplicate key "a"'),
    ('{"a": {"b": {}},\n"\\u0061" : 2}', 'malformed JSON at line 2 column 1: duplicate key "a"'),
    ('{"x": {"a": 1}, "a": {"a": 1, "b": "a", "a": 1}}', 'malformed JSON at line 1 column 41: duplicate key "a"'),
    ("[" * 100_000, "malformed JSON: nested too deeply"),
    ('{"a":' * 100_000, "malformed JSON: nested too deeply"),
    ("\ufeff{}", "malformed JSON at line 1 column 1: unexpected UTF-8 BOM (decode using utf-8-sig)"),
    ("\u00a0{}", "malformed JSON at line 1 column 1: expecting value"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[repr(text[:20]) for text, _ in REFUSED])
def test_json_error_names_line_column_and_reason(text, message):
    """A refused text is refused with line, column and reason."""
    assert message == error_of(text)


def test_json_error_details_have_line_and_column():
    """Line and column are there for machines too."""
    with pytest.raises(CapsuleError) as caught:
        strict_json.loads('{"a": 1,\n"a": 2}')
    assert {"line": 2, "column": 1} == caught.value.details


ACCEPTED = [
    ('{"a": {"a": 1}, "b": {"a": 1}}', {"a": {"a": 1}, "b": {"a": 1}}),
    (' \t\r\n{"a" : [1, -0.5e1, true, null]}\n ', {"a": [1, -5.0, True, None]}),
    ('"\\ud800"', "\ud800"),
    ('"\\ud83d\\ude00\\u0000"', "😀\0"),
    ("123456789012345678901234567890", 123456789012345678901234567890),
]


@pytest.mark.parametrize(("text", "value"), ACCEPTED)
def test_json_valid_text_is_accepted(text, value):
    """White space around, equal keys of different objects and escaped lone surrogates are JSON."""
    assert value == strict_json.loads(text)


def test_json_error_takes_linear_time():
    """Half a megabyte of keys before the mistake is refused in well under a second."""
    text = "{" + ",".join(f'"k{n}": "v"' for n in range(30_000)) + ', "k0": NaN}'
    before = time.process_time()
    error_of(text)
    assert time.process_time() - before < 1.0


UNWRITABLE = [(math.nan, ValueError), ([math.inf], ValueError), ({"a": object()}, TypeError), (b"bytes", TypeError)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(("value", "error"), UNWRITABLE)
def test_json_dumps_refuses_values_json_lacks(value, error, indent):
    """NaN, infinity and objects are never written."""
    with pytest.raises(error):
        strict_json.dumps(value, indent=indent)


def test_json_dumps_refuses_a_circular_value():
    """A list that holds itself is refused instead of being written for ever."""
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        strict_json.dumps(circle, indent=2)


def isolated(script):
    """What a fresh bare interpreter prints."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{script}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_json_valid_text_does_not_import_json():
    """Reading and writing good JSON never imports `json` or `re`."""
    script = (
        "from capsule_run._base import strict_json\n"
        "value = strict_json.loads(' {\"a\": [1, 2.5, null]} ')\n"
        "print(strict_json.dumps(value, indent=None), len(strict_json.dumps(value, indent=2)))\n"
        "print(sorted({'json', 're'} & set(sys.modules)))"
    )
    assert '{"a":[1,2.5,null]} 41\n[]\n' == isolated(script)


def test_json_fallback_without_accelerator_is_as_strict():
    """On a Python without `_json`, `json` does the same work, with the same strictness."""
    script = (
        "sys.modules['_json'] = None\n"
        "from capsule_run._base import strict_json\n"
        "value = strict_json.loads(' {\"a\": [1, 2.5, null]} ')\n"
        "print(strict_json.dumps(value, indent=None), len(strict_json.dumps(value, indent=2)), 'json' in sys.modules)\n"
        "for text in ('{\"a\":1,\"a\":2}', 'NaN', '1 2', '1e999'):\n"
        "    try: print(strict_json.loads(text))\n"
        "    except strict_json.CapsuleError as error: print(error.code)"
    )
    assert '{"a":[1,2.5,null]} 41 True\n' + "E1001\n" * 4 == isolated(script)


def test_json_fallback_with_changed_accelerator_works():
    """On a Python whose `_json` takes other arguments, `json` does the work."""
    script = (
        "import types\n"
        "changed = types.ModuleType('_json')\n"
        "changed.make_scanner = lambda *, settings: None\n"
        "changed.make_encoder = changed.encode_basestring_ascii = print\n"
        "sys.modules['_json'] = changed\n"
        "import capsule_run._base.strict_json as strict_json\n"
        "del sys.modules['_json']\n"
        "print(strict_json.dumps(strict_json.loads('[1]'), indent=None), strict_json._scan.__name__)"
    )
    assert "[1] _slow_scan\n" == isolated(script)
