"""How the sandbox and escape tests run things inside: through the command's JSON mode, as the caller or an ordinary user.

Not a test. Imported by both folders' conftest.py. Judges nothing: it returns what the caller of `capsule-run` sees.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import capsule_run

# What the installed command execs: the package's own file, isolated and without site. Or the static file.
INSTALLED = (sys.executable, "-I", "-S", str(Path(capsule_run.__file__).parent / "__main__.py"))
COMMAND = (os.environ["CAPSULE_TEST_FILE"],) if "CAPSULE_TEST_FILE" in os.environ else INSTALLED
# CAPSULE_TEST_WAY=pool or room: each request runs in a room that a pool built ahead, or joins one (other_ways.py).
WAY = os.environ.get("CAPSULE_TEST_WAY")
JSON = (*COMMAND, "--json") if WAY is None else (sys.executable, str(Path(__file__).with_name("other_ways.py")), WAY)
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")


class Inside:
    """Run commands inside as one caller. `inside(argv, **fields of the request)` returns the response."""

    def __init__(self, start):
        self._start = start
        self.uid = getattr(start, "uid", os.geteuid())

    def __call__(self, command, *, options=(), process=None, **fields):
        request = json.dumps({"command": [str(word) for word in command], **fields}).encode()
        done = self._start([*((*COMMAND, "--json") if options else JSON), *options], input=request, **(process or {}))
        assert done.stdout, done.stderr.decode()
        return json.loads(done.stdout)

    def python(self, code, **fields):
        """The response of a Python program inside."""
        return self([*PYTHON, code], **fields)

    def says(self, command, **fields):
        """What a command that must succeed prints, without the last newline."""
        return printed(self(command, **fields))

    def python_says(self, code, **fields):
        """What a Python program that must succeed prints, without the last newline."""
        return printed(self.python(code, **fields))

    def cli(self, *words, **process):
        """The command line itself, as subprocess.run has it."""
        return self._start([*COMMAND, *words], **process)


def printed(response):
    """Standard output of a clean end, without the last newline."""
    assert response["status"] == "success", (response.get("error"), response.get("stderr"), response.get("stdout"))
    return response["stdout"].rstrip("\n")


def code_of(response):
    """The code of a response's error, or an empty string."""
    return response.get("error", {}).get("code", "")


def process_state(pid):
    """The state letter of a host process, or None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def is_alive(pid):
    """Whether a host process still runs (a zombie does not)."""
    return process_state(pid) not in (None, "Z", "X")


def descendants_named(name):
    """Pids of every host process whose command line holds `name`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if name.encode() in words:
                found.append(int(entry))
    return found


def outcome(response):
    """What an attacker saw: what the attack program printed, `E5001` if a call ended the run, or the signal that ended it."""
    if code_of(response) == "E5001" and response["signal"] == "SIGKILL":
        return "E5001"
    return response["signal"] if "signal" in response else response["stdout"].strip()
