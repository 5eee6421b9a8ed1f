"""Run a program outside and inside, as the same caller, and hold the two against each other. Not a test."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from capsule_run.engine.execute import execute
from capsule_run.model.request import Bind, Isolation, Request, Resources

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 240


class End(NamedTuple):
    """How a program ended: with what exit code, and which words. `why` is stderr, or our own error."""

    code: int | None
    said: str
    why: str


def outside(command, *, environment=None, seconds=SECONDS):
    """In an empty folder that is its home."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as home:
        clean = {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", "USER": "user", "TMPDIR": "/tmp"}
        clean = {**clean, "PYTHONUNBUFFERED": "1", **(environment or {})}
        done = subprocess.run(
            command, cwd=home, env=clean, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    return End(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")[-2000:])


def inside(command, *, environment=None, memory_mib=512, max_pids=100, shown=(), seconds=SECONDS):
    """In a sandbox with the default profile; its limits are as large as the program needs, `shown` folders are read-only."""
    request = Request(
        command=tuple(map(str, command)),
        environment=tuple((environment or {}).items()),
        timeout_ms=seconds * 1000,
        resources=Resources(
            memory_bytes=memory_mib << 20, disk_bytes=1 << 30, max_pids=max_pids, max_output_bytes=64 << 20
        ),
        isolation=Isolation(
            binds=tuple(Bind(source=str(Path(path).resolve()), destination=str(path)) for path in shown)
        ),
    )
    result = execute(request)
    why = result.stderr[-2000:]
    if result.error is not None and result.error.code != "E3003":
        why += f"\n{result.error.code}: {result.error.message}"
    return End(result.exit_code, result.stdout, why)
