"""What a failed command's last line is taken for, and which option the hint names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from capsule_run.result.hints import hint

WRITING, NETWORK, READING = "--writable", "--network", "--readonly"

LINES = [
    ("sh: 1: cannot create /usr/foo: Read-only file system", WRITING),
    ("OSError: [Errno 30] Read-only file system: '/etc/passwd'", WRITING),
    ("Error: EROFS: read-only file system, open '/usr/x'", WRITING),
    ("curl: (6) Could not resolve host: example.com", NETWORK),
    ("urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>", NETWORK),
    ("Error: getaddrinfo EAI_AGAIN example.com", NETWORK),
    ("OSError: [Errno 101] Network is unreachable", NETWORK),
    ("cat: /home/x/data.csv: No such file or directory", READING),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/srv/data'", READING),
    ("Error: ENOENT: no such file or directory, open '/opt/model.bin'", READING),
    # the program's own business: places that every sandbox has, and names without a place
    ("cat: data.csv: No such file or directory", ""),
    ("cat: /workspace/data.csv: No such file or directory", ""),
    ("/usr/bin/env: ‘pyhton’: No such file or directory", ""),
    ("cat: /shared/nothing: No such file or directory", ""),
    ("ValueError: /home/x is no number", ""),
    ("", ""),
]


def policy(*, network=False):
    return SimpleNamespace(network=network, binds=(SimpleNamespace(destination="/shared"),))


@pytest.mark.parametrize(("line", "option"), LINES)
def test_hint_for_mounts_and_namespaces_names_the_option(line, option):
    """A wall of mounts or namespaces is recognised by the words of libc, Python and Node; nothing else makes a hint."""
    said = hint(line, policy())
    assert (bool(option), True) == (bool(said), option in said)


def test_hint_for_failed_lookup_with_network_is_absent():
    """With the host's network a name that does not resolve is the program's own business."""
    assert "" == hint("curl: (6) Could not resolve host: example.com", policy(network=True))


@pytest.mark.parametrize(("line", "_option"), LINES)
def test_hint_repeats_nothing_the_program_wrote(line, _option):
    """A program cannot make us recommend a path of its choice."""
    said = hint(line, policy())
    assert not [
        word for word in line.replace("'", " ").replace(":", " ").split() if word.startswith("/") and word in said
    ]
