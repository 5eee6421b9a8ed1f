"""Sizes as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_run._base.errors import CapsuleError
from capsule_run.request.sizes import MAX_BYTES, format_size, parse_size

PARSED = [
    ("256M", 268_435_456),
    ("1G", 1 << 30),
    ("0", 0),
    ("1048576", 1_048_576),
    ("512B", 512),
    ("4k", 4096),
    ("4KB", 4096),
    ("4KiB", 4096),
    ("4kib", 4096),
    ("2T", 2 << 40),
    ("1.5G", 3 << 29),
    ("0.1K", 102),
    ("007", 7),
    ("8388607T", 8_388_607 << 40),
    (str(MAX_BYTES), MAX_BYTES),
]


@pytest.mark.parametrize(("text", "size"), PARSED)
def test_size_with_unit_is_parsed(text, size):
    """Units are powers of 1024 in any case and spelling, and a fraction is rounded down to a whole byte."""
    assert size == parse_size(text)


NOT_SIZES = [
    "",
    "M",
    "abc",
    "1 M",
    " 1M",
    "1M ",
    "1X",
    "1MM",
    "1BK",
    "1IB",
    "+1",
    "1e3",
    "1,5G",
    ".5G",
    "1.",
    "1..5G",
    "0x10",
    "٣M",
    "1_000",
    "--1",
    "9" * 40 + "X",
]


@pytest.mark.parametrize("text", NOT_SIZES)
def test_size_invalid_is_refused_with_an_example(text):
    """What is not a number and a unit is refused with an example of what is."""
    with pytest.raises(CapsuleError) as caught:
        parse_size(text, label="--memory")
    assert "E1005" == caught.value.code
    assert caught.value.message.startswith("--memory: must be a size such as `256M` or `1G`, got ")


@pytest.mark.parametrize("text", ["-1", "-256M", "-1.5K", "8388608T", str(MAX_BYTES + 1), "9" * 5000])
def test_size_out_of_range_is_refused(text):
    """A negative size and one above 2^63-1 are refused as such."""
    with pytest.raises(CapsuleError) as caught:
        parse_size(text, label="--disk")
    assert ("E1004", "--disk: must be from 0 to 2^63-1 bytes") == (caught.value.code, caught.value.message)


FORMATTED = [
    (0, "0 bytes"),
    (1, "1 byte"),
    (1023, "1023 bytes"),
    (1024, "1 KiB"),
    (1536, "1.5 KiB"),
    ((1 << 20) - 1, "1023.9 KiB"),
    (268_435_456, "256 MiB"),
    (3 << 29, "1.5 GiB"),
    (5 << 50, "5120 TiB"),
]


@pytest.mark.parametrize(("size", "text"), FORMATTED)
def test_size_is_formatted_in_its_largest_unit(size, text):
    """A size is written in its largest unit with at most one decimal, never larger than it is."""
    assert text == format_size(size)


@settings(max_examples=50, database=None, deadline=None, derandomize=True)
@given(st.integers(0, MAX_BYTES))
def test_size_formatted_reads_back_at_most_a_tenth_smaller(size):
    """What we write we can read, and it is the size but for the digits not shown."""
    number, unit = format_size(size).split()
    back = parse_size(number + unit.removesuffix("s").removesuffix("yte"))
    assert size - size / 10 <= back <= size
