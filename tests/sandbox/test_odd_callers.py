"""Callers in odd states: each has a clear outcome, an exit code of the documented ones, and no traceback."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from inside import COMMAND, INSTALLED

# -B: Python keeps compiled modules although a file size limit cut them
WORDS = (COMMAND[0], "-B", *COMMAND[1:]) if COMMAND == INSTALLED else COMMAND
ECHO = '"$@" -- echo x'
GONE = 'd=$(mktemp -d) && cd "$d" && rmdir "$d"; '
EXEC = (
    """python3 -c 'import os, signal, sys; {how}; os.execv(sys.argv[1], sys.argv[1:])' "$@" -- sh -c 'true; echo x'"""
)

SLOW_REQUEST = """(sleep 0.2; echo '{"command":["echo","x"]}') | python3 -c 'import os, sys; os.set_blocking(0, False);
os.execv(sys.argv[1], sys.argv[1:])' "$@" --json | grep -o '"stdout":"x.n"'; (exit ${PIPESTATUS[1]})"""

# A line of bash in which `"$@"` is the command; its exit code, its output, and a part of what stands on stderr.
CALLERS = {
    "stdin closed": ('"$@" -- cat <&-', 0, "", ""),
    "stdout closed": ('"$@" -- sh -c "echo x; exit 6" >&-', 6, "", ""),
    "stderr closed": ('"$@" -- sh -c "echo x; echo y >&2; exit 6" 2>&-', 6, "x\n", ""),
    "all closed": ('"$@" -- sh -c "exit 6" <&- >&- 2>&-', 6, "", ""),
    "usage with stderr closed": ('"$@" --no-such-option 2>&-', 2, "", ""),
    "usage with stderr full": ('"$@" --no-such-option 2>/dev/full', 2, "", ""),
    "a timeout with stderr full": ('"$@" --timeout 200 -- sleep 9 2>/dev/full', 124, "", ""),
    "both outputs one pipe": ('"$@" -- sh -c "echo a; echo b >&2" 2>&1 | cat', 0, "a\nb\n", ""),
    "directory gone": (GONE + ECHO, 0, "x\n", "the current directory is gone: /workspace starts empty"),
    "directory gone, shared": (GONE + '"$@" --workspace . -- ls', 125, "", "no such file or directory"),
    "directory gone, shown": (GONE + '"$@" --no-workspace --readonly etc -- ls', 125, "", "no such file or directory"),
    "directory gone, writable": (GONE + '"$@" --no-workspace --writable tmp -- ls', 125, "", "no such file or directory"),
    "directory gone, a file": (GONE + '"$@" --no-workspace --file a=etc/passwd -- ls', 125, "", "no such file or directory"),
    "no HOME": ("unset HOME; " + ECHO, 0, "x\n", ""),
    "empty HOME": ("HOME= " + ECHO, 0, "x\n", ""),
    "relative HOME": ("HOME=x " + ECHO, 0, "x\n", ""),
    "HOME that is not there": ("HOME=/no/such " + ECHO, 0, "x\n", ""),
    "TMPDIR that is not there": ("TMPDIR=/no/such " + ECHO, 0, "x\n", ""),
    "no environment": ("env -i " + ECHO, 0, "x\n", ""),
    "no PATH": ("PATH= " + ECHO, 0, "x\n", ""),
    "locale C and bytes": ("LC_ALL=C \"$@\" -- printf %s $'\\xff\\xc3\\xa9' | od -An -tx1", 0, " ff c3 a9\n", ""),
    "an unknown locale": ("LC_ALL=xx_YY.zz \"$@\" -- $'\\xff\\n'", 127, "", "command not found: `\\udcff\\n`"),
    "long arguments": ('x=$(printf %0120000d 0); "$@" -- true $x $x $x $x', 0, "", ""),
    "too long arguments": ('x=$(printf %0120000d 0); "$@" -- true $x $x $x $x $x $x $x $x $x', 2, "", "E1008"),
    "SIGPIPE ignored": ("trap '' PIPE; \"$@\" -- yes | head -1", 141, "y\n", ""),
    "SIGCHLD ignored": (EXEC.format(how="signal.signal(signal.SIGCHLD, signal.SIG_IGN)"), 0, "x\n", ""),
    "all signals blocked": (EXEC.format(how="signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"), 0, "x\n", ""),
    "non-blocking stdin": (EXEC.format(how="os.set_blocking(0, False)"), 0, "x\n", ""),
    "a slow request": (SLOW_REQUEST, 0, '"stdout":"x\\n"\n', ""),
    "umask 777": ('umask 777; "$@" -- sh -c "echo x > /tmp/f; cat /tmp/f"', 0, "x\n", ""),
    "file size 0.5 KiB": ("ulimit -f 1; " + ECHO, 125, "", "E6003: capsule-run itself: file too large"),
    "file size 4 KiB": ("ulimit -f 8; " + ECHO, 125, "", "file too large\n\nhint: raise the file size limit"),
    "file size of the output": ('ulimit -f 64; "$@" --pretty -- seq 50000 | grep -o E6006', 125, "E6006\n", ""),
    "small stack": ("ulimit -s 128; " + ECHO, 0, "x\n", ""),
    "nothing locked, queued or dumped": ("ulimit -l 0 -i 0 -q 0 -c 0; " + ECHO, 0, "x\n", ""),
    "little memory": ("ulimit -v 60000; " + ECHO, 0, "x\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLERS)
def test_odd_caller_has_a_clear_outcome(place, name, needs):
    """However the caller has left itself, the exit code is a documented one and nothing of Python's is shown."""
    if name == "file size of the output":  # the static file's core alone is larger
        needs("package")
    line, code, out, err = CALLERS[name]
    done = subprocess.run(
        ["/bin/bash", "-c", f"{line}\nexit ${{PIPESTATUS[0]}}", "bash", *WORDS],
        capture_output=True, timeout=50, cwd=place, check=False, env={"PATH": os.environ["PATH"], "HOME": "/tmp"},
    )  # fmt: skip
    said = done.stderr.decode()
    assert (code, out) == (done.returncode, done.stdout.decode()), said
    assert err in said
    assert not re.search("Traceback|Error:|Fatal", said)
    assert err or said == ""
