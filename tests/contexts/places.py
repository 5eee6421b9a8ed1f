"""The places where an interpreter runs: as a process of this test, and in a sandbox. What a cell does is the same in both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from capsule_run import Sandbox
from capsule_run.contexts import Context, command


class PlainProcess:
    """An interpreter without a sandbox, with what a context needs of a process."""

    def __init__(self, language="python", cwd=None, start=None, env=None):
        argv = start or [sys.executable, *command(language)[1:]]
        pipe = subprocess.PIPE
        environment = {**os.environ, **(env or {})}
        self.process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, bufsize=0, start_new_session=True, cwd=cwd, env=environment
        )
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait(self, timeout=None):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None


GRACE_MS = 20_000  # an interrupt reaches a cell late on a machine that is busy: only tests of the kill are impatient


@contextmanager
def started(place, folder, language="python"):
    """A context whose interpreter is a process of this test, or runs in a sandbox, in a folder that both sides see."""
    if place == "process":
        with Context(lambda: PlainProcess(language, cwd=folder), language=language, grace_ms=GRACE_MS) as context:
            yield context
        return
    with Sandbox(writable=[folder]) as box, box.create_context(language, cwd=folder, grace_ms=GRACE_MS) as context:
        yield context
