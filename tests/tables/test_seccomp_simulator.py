"""The interpreter that judges our filters must itself refuse what a kernel refuses."""

from __future__ import annotations

import struct

import pytest
from bpf_simulator import ALLOW, BadProgramError, Filter, call

RETURN_ALLOW = (0x06, 0, 0, ALLOW)


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *each) for each in instructions)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x06\x00\x00", id="torn instruction"),
        pytest.param(program((0x15, 1, 0, 0), RETURN_ALLOW), id="branch past the end"),
        pytest.param(program((0x05, 0, 0, 1), RETURN_ALLOW), id="jump past the end"),
        pytest.param(program((0x20, 0, 0, 0)), id="falls off the end"),
        pytest.param(program((0x20, 0, 0, 64), RETURN_ALLOW), id="load behind the data"),
        pytest.param(program((0x20, 0, 0, 2), RETURN_ALLOW), id="unaligned load"),
        pytest.param(program((0x28, 0, 0, 0), RETURN_ALLOW), id="half-word load"),
        pytest.param(program(*[RETURN_ALLOW] * 4097), id="too long"),
    ],
)
def test_bpf_simulator_refuses_malformed_programs(bad: bytes) -> None:
    """A malformed program is refused as a whole, whichever path a call would take."""
    with pytest.raises(BadProgramError):
        Filter(bad)


def test_bpf_simulator_takes_the_right_branch() -> None:
    """A branch compares the loaded word without sign and goes its yes or no way."""
    loaded = Filter(program((0x20, 0, 0, 16), (0x35, 0, 1, 0x80000000), (0x06, 0, 0, 1), (0x06, 0, 0, 2)))

    assert [1, 2] == [loaded.run(call(0, 0, argument)) for argument in (0xFFFFFFFF, 0x7FFFFFFF)]
