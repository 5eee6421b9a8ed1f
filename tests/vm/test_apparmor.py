"""The profile that `doctor --apparmor` prints, on a kernel where AppArmor refuses user namespaces. In a guest alone.

Ubuntu's sysctl is no part of Linux: here a profile for all programs refuses them, by the same hook of the kernel (6.7 or later).
`CAPSULE_APPARMOR` names a directory with AppArmor's package of version 4 and its libraries (tests/vm/debian.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from limit_mechanisms import COMMAND

TREE = Path(os.environ.get("CAPSULE_APPARMOR", "/nowhere"))
pytestmark = [pytest.mark.sandbox, pytest.mark.limit(240), pytest.mark.needs("guest", "root", "apparmor-userns")]
AS_USER = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
RESTRICTION = """
abi <abi/4.0>,
profile everything /** flags=(attach_disconnected) {
  /** rwlkm,
  /** pux,
  capability, network, mount, umount, pivot_root, ptrace, signal, unix,
}
"""


def _parser(action, text):
    libraries = TREE / "usr/lib/x86_64-linux-gnu"
    argv = [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, TREE / "usr/sbin/apparmor_parser"]
    done = subprocess.run(
        [*argv, "--base", TREE / "etc/apparmor.d", "--skip-cache", action], input=text, capture_output=True, text=True
    )
    assert 0 == done.returncode, done.stderr


def _as_user(*argv):
    return subprocess.run([*AS_USER, *argv], capture_output=True, text=True, cwd="/")


@pytest.fixture
def restricted():
    """No program makes a user namespace, but for those that a profile of their own lets."""
    _parser("--add", RESTRICTION)
    yield
    _parser("--remove", RESTRICTION)


def test_apparmor_profile_lets_the_core_alone_make_user_namespaces(restricted):
    """Without it E2001 and a remedy that is this profile; with it a command runs, and no other program gets a namespace."""
    refused = _as_user(*COMMAND, "--", "echo", "alive")
    assert (125, "") == (refused.returncode, refused.stdout)
    assert "E2001" in refused.stderr

    profile = _as_user(*COMMAND, "doctor", "--apparmor").stdout
    _parser("--add", profile)
    try:
        assert "alive\n" == _as_user(*COMMAND, "--", "echo", "alive").stdout
        assert 0 != _as_user("unshare", "--user", "true").returncode
        checks = {one["check"]: one for one in json.loads(_as_user(*COMMAND, "doctor", "--json").stdout)["checks"]}
        assert "ok" == checks["user namespaces"]["state"] == checks["sandbox"]["state"]
    finally:
        _parser("--remove", profile)
