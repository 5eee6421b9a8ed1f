"""Judge a submission: compile it once in a sandbox, run it on each test in a fresh one, with limits, and give a verdict.

    python examples/judge.py [SOURCE.c]

The compiled program leaves the first sandbox through a folder that is shared writable, and enters the others read-only.
The time limit is one of processor time, so that a busy host fails nobody; the clock is for those who only wait.
A C compiler is needed; the compiler too runs inside, because a source file can attack a compiler.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import capsule_run

TESTS = [("1 2\n", "3\n"), ("-5 5\n", "0\n"), ("2000000000 2000000000\n", "4000000000\n")]
# Right for two of the three tests: an `int` is too small for the last.
SOURCE = """\
#include <stdio.h>
int main(void)
{
    int a, b;
    if (scanf("%d %d", &a, &b) != 2)
        return 1;
    printf("%d\\n", a + b);
}
"""
VERDICTS = {
    "E3006": "time limit exceeded",
    "E4001": "memory limit exceeded",
    "E4003": "output limit exceeded",
    "E4004": "time limit exceeded",
    "E5001": "forbidden system call",
}


def compile_source(source: str, folder: Path) -> str:
    """Leave `program` in the folder. Returns the compiler's words where there is none."""
    (folder / "source.c").write_text(source)
    result = capsule_run.run(
        ["cc", "-O2", "-o", f"{folder}/program", f"{folder}/source.c"],
        writable=[str(folder)],
        timeout_ms=20_000,
        memory="512M",
    )
    return "" if result.ok else result.stderr or str(result.error)


def judge(folder: Path, given: str, expected: str) -> str:
    """The verdict on one test."""
    result = capsule_run.run(
        [f"{folder}/program"],
        readonly=[str(folder)],
        stdin=given,
        cpu_time_ms=1_000,
        timeout_ms=10_000,
        memory="64M",
        max_pids=1,
        max_output="64K",
    )
    if result.error is not None:
        return VERDICTS.get(result.error.code, f"runtime error ({result.error.message})")
    used = f"{result.metrics.cpu_ms:.0f} ms" if result.metrics is not None else ""
    return f"accepted {used}" if result.stdout == expected else "wrong answer"


def main() -> int:
    source = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else SOURCE
    with tempfile.TemporaryDirectory(prefix="judge-") as name:
        folder = Path(name).resolve()  # a path that is shown may not lead through a symbolic link
        errors = compile_source(source, folder)
        if errors:
            print(f"compilation error\n{errors}")
            return 1
        verdicts = [judge(folder, *test) for test in TESTS]
    for number, verdict in enumerate(verdicts, 1):
        print(f"test {number}: {verdict}")
    return 0 if all(verdict.startswith("accepted") for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
