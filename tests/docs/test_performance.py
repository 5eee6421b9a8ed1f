"""docs/performance.md, against the targets that `bench/` judges by."""

from __future__ import annotations

import sys

import pytest
from documents import DOCS, REPOSITORY, table_rows

PAGE = (DOCS / "performance.md").read_text()
TARGETS = dict(table_rows(PAGE.partition("## Targets")[2].partition("\n## ")[0]))


@pytest.fixture
def bench(monkeypatch):
    """The modules of `bench/`, which is no package."""
    monkeypatch.syspath_prepend(REPOSITORY / "bench")
    names = ("calls", "cgroups", "interfaces", "files", "measure", "memory", "output", "start", "static", "sessions")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {name: __import__(name) for name in names}
    yield modules
    for name in names:
        sys.modules.pop(name, None)


def test_performance_page_targets_are_judged(bench):
    """Each target on the page is the figure that the measurement compares with."""
    calls, memory = bench["calls"].LIMITS, bench["memory"].TARGET_MIB
    rooms = bench["sessions"]
    musl, other, over = memory["musl"], memory["other"], bench["calls"].OVER_BWRAP
    assert {
        "SDK cold run, without control groups": f"≤ {bench['start'].SDK_SHARE_OF_BWRAP} × bubblewrap with the same sandbox",
        "SDK cold run, of the barest sandbox": (
            f"≤ {bench['start'].SDK_SHARE_OF_BAREST} × bubblewrap without filter and without `/etc`"
        ),
        "CLI cold, without control groups": f"≤ `python3 -I -S -c pass` + {bench['start'].CLI_OVER_BARE_MS:.0f} ms",
        "launcher and init together": f"≤ {musl} MiB PSS with the musl build, ≤ {other:.0f} MiB with any other",
        "loop that only computes": f"≤ {calls['cpu']} × outside",
        "stat, open, pipe, a 4 KiB write": f"≤ {calls['stat']:.2f} × outside",
        "the cheapest calls (getppid, a write to /dev/null)": f"≤ {calls['getppid']} × outside",
        "copy-on-write workspace of 20,000 files": f"≤ an empty workspace + {bench['files'].COW_ADDS_MS} ms",
        "control groups of a run": (
            f"≤ the same run without + {bench['cgroups'].ADDS_MS} ms; "
            f"in the virtual machine ≤ {bench['cgroups'].GUEST_RATIO} ×"
        ),
        "a tool call through OpenAI's, Anthropic's or MCP": f"≤ {bench['interfaces'].SHARE_OF_SDK} × `capsule_run.run`",
        "MCP server, from nothing to the handshake": f"≤ {bench['interfaces'].MCP_START_MS:.0f} ms",
        "getppid, open": f"≤ {over['getppid']} × in bubblewrap with a filter of one instruction",
        "a byte through a pipe": f"≤ {over['pipe-byte']} × in bubblewrap with a filter of one instruction",
        "1 GiB through stdout": f"≥ {bench['output'].SHARE_OF_PLAIN} × a plain pipe",
        "pooled run": f"≤ {rooms.POOLED_SHARE} × `subprocess.run`; at the 99th percentile ≤ {rooms.POOLED_P99_SHARE:.0f} ×",
        "second call in a sandbox": f"≤ {rooms.SECOND_SHARE:.0f} × `subprocess.run`",
        "prepared Python": f"≤ {rooms.PREPARED_SHARE} × `python3 -I -S -c`; with numpy ≤ {rooms.NUMPY_SHARE} × a cold start",
        "a cell in a warm context": f"≤ {rooms.CELL_MS:.0f} ms",
        "a room that waits": f"≤ {rooms.ROOM_MIB} MiB PSS; with a Python ≤ {rooms.PREPARED_MIB:.0f} MiB",
        "static file, start": f"≤ {bench['static'].START_OF_BWRAP:.0f} × the barest bubblewrap",
        "static file, resident while a command runs": f"≤ {bench['static'].MEMORY_BYTES / 1e6:.0f} MB",
        "runs a second, on every processor": (
            f"pooled ≥ {rooms.POOLED_RATE:.0f} × bubblewrap; prepared Python ≥ {rooms.PREPARED_RATE:.0f} × one in bubblewrap"
        ),
    } == TARGETS
    assert calls["stat"] == calls["open"] == calls["write-4K"] == calls["pipe"]
    assert (calls["getppid"], over["getppid"]) == (calls["write-null"], over["open"])


def test_performance_page_marks_the_figures():
    """The figures have their place, which anyone who measured fills."""
    assert 1 == (DOCS / "performance.md").read_text().count("<!-- figures -->")
