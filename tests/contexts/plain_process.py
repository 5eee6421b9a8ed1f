"""An interpreter that is a process of this test, without a sandbox: what a cell does is the same in one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from capsule_run.contexts import command


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
