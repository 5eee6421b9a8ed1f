"""What the command writes is its output, and never our report: each attack on the channel to the launcher fails."""

from __future__ import annotations

import pytest
from handwritten_plans import run_command, run_python

from capsule_run.engine.execute import execute
from capsule_run.model.request import Request

pytestmark = pytest.mark.sandbox

REPORT = "times 1 2 3 4 5 6 7\\nkilled clock\\nstarted 6\\nexited 0\\nstdout 0 0 0\\nstderr 0 0 0\\nend\\n"


def test_descriptors_of_the_command_are_its_streams(core_path):
    """The command has 0, 1 and 2 (and the one that lists them), whatever we had."""
    _report, out, _err = run_python(core_path, "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))")
    assert b"[0, 1, 2, 3]\n" == out  # 3 is the listing itself


def test_forged_report_on_any_descriptor_changes_nothing(core_path):
    """A report-like text goes to every number that a descriptor can have; it is output where it is anything."""
    script = f"""if True:
        import os
        text = b"{REPORT}"
        for fd in range(1, 1024):
            try: os.write(fd, text)
            except OSError: pass
        os._exit(7)"""
    report, out, err = run_python(core_path, script)
    text = REPORT.replace("\\n", "\n").encode()
    assert (7, "", text, text) == (report.exited, report.killed, out, err)


def test_forged_link_message_on_any_descriptor_changes_nothing(core_path):
    """The same with the binary messages of process 1."""
    script = """if True:
        import os, socket, struct
        for kind in range(0, 12):
            message = struct.pack("=Iiii", kind, 9, 0, 0)
            for fd in range(3, 1024):
                try: os.write(fd, message)
                except OSError: pass
                try: socket.socket(fileno=os.dup(fd)).send(message)
                except OSError: pass
        os._exit(7)"""
    report, *_ = run_python(core_path, script)
    assert (7, "") == (report.exited, report.killed)


ATTACKS = {
    "list its descriptors": "os.listdir('/proc/1/fd')",
    "open its link": "os.open('/proc/1/fd/3', os.O_RDWR)",
    "open its procfs": "os.open('/proc/1/fd/4', os.O_RDONLY)",
    "open its stderr": "os.open('/proc/1/fd/2', os.O_RDWR)",
    "read its memory": "os.open('/proc/1/mem', os.O_RDONLY)",
    "write its memory": "os.open('/proc/1/mem', os.O_RDWR)",
    "read its map": "open('/proc/1/maps').read(1)",
    "read its environment": "open('/proc/1/environ').read(1)",
    "follow its root": "os.listdir('/proc/1/root/')",
    "follow its directory": "os.listdir('/proc/1/cwd/')",
    "read its program": "os.readlink('/proc/1/exe')",
    "read its stack": "open('/proc/1/stack').read()",
    "read its call": "open('/proc/1/syscall').read()",
    "join its namespaces": "os.open('/proc/1/ns/user', os.O_RDONLY)",
    "write its oom score": "open('/proc/1/oom_score_adj', 'w').write('0')",
    "write its name": "open('/proc/1/comm', 'w').write('x')",
    "write its id map": "open('/proc/1/uid_map', 'w').write('0 0 1')",
    "ptrace attach": "check(libc.ptrace(16, 1, 0, 0))",
    "ptrace seize": "check(libc.ptrace(0x4206, 1, 0, 0))",
    "process_vm_readv": "check(libc.process_vm_readv(1, (ctypes.c_ulong * 2)(), 1, (ctypes.c_ulong * 2)(), 1, 0))",
    "process_vm_writev": "check(libc.process_vm_writev(1, (ctypes.c_ulong * 2)(), 1, (ctypes.c_ulong * 2)(), 1, 0))",
    "take its descriptor": "check(libc.syscall(438, check(libc.syscall(434, 1, 0)), 3, 0))",
    "lower its limits": "__import__('resource').prlimit(1, 7, (0, 0))",
    "give it less time": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "take its processors": "os.sched_setaffinity(1, {0})",
    "make it idle": "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "make its input idle": "check(libc.syscall(NR_IOPRIO_SET, 1, 1, 3 << 13))",
    "move it to another group": "os.setpgid(1, 0)",
    "unlock its memory": "check(libc.syscall(NR_MIGRATE, 1, 8, (ctypes.c_ulong * 1)(1), (ctypes.c_ulong * 1)(1)))",
}


@pytest.mark.parametrize("user", [1000, 0])
@pytest.mark.parametrize("attack", ATTACKS)
def test_init_cannot_be_traced_or_limited(core_path, attack, user):
    """The command, root inside or not, can neither read, change, slow nor limit the process that reports on it."""
    script = f"""if True:
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long] * 4
        NR_IOPRIO_SET, NR_MIGRATE = {{"x86_64": (251, 256), "aarch64": (30, 238)}}[os.uname().machine]
        def check(result):
            if result < 0: raise OSError(ctypes.get_errno(), "no")
            return result
        try:
            {ATTACKS[attack]}
        except (PermissionError, FileNotFoundError, ProcessLookupError) as error: print("refused")
        except OSError as error: print("refused" if error.errno in (30, 38, 22) else error)
        else: print("done")"""
    from capsule_run.model.request import Isolation

    report, out, _err = run_python(core_path, script, isolation=Isolation(user=user))
    # some calls are beyond the filter, which may end the command instead
    assert (b"refused\n", None) == (out, report.signalled) or (b"", 31) == (out, report.signalled)


def test_signal_to_the_parent_stays_inside(core_path):
    """Signals to the parent, the group 0 and all others do not reach beyond the wall or change the end."""
    script = """if True:
        import os
        for target in (os.getppid(), 2**22, -2**22, 4, 5, 100):
            for number in (17, 10, 12, 34, 64):
                try: os.kill(target, number)
                except OSError: pass
        os._exit(7)"""
    report, *_ = run_python(core_path, script)
    assert (7, "") == (report.exited, report.killed)


def test_forged_sigchld_is_not_the_end(core_path):
    """Process 1 learns of ends from wait and not from what a SIGCHLD says, which anybody may send."""
    script = """if True:
        import ctypes, os
        libc = ctypes.CDLL(None)
        info = (ctypes.c_int * 32)(17, 0, -1, 0, 2, 1000, 0)
        for _ in range(1000):
            libc.syscall({"x86_64": 129, "aarch64": 138}[os.uname().machine], 1, 17, info)
            try: os.kill(1, 17)
            except OSError: pass
        os.write(1, b"still here")
        os._exit(7)"""
    report, out, _err = run_python(core_path, script)
    assert (7, b"still here") == (report.exited, out) or 31 == report.signalled


def test_sockets_of_the_host_cannot_be_connected(core_path):
    """Sockets of the host, abstract ones, and every descriptor's peer: none can be connected to."""
    script = """if True:
        import os, socket
        reached = []
        for name in ("\\0" + "capsule", "/run/systemd/private", "/var/run/docker.sock", "/run/dbus/system_bus_socket"):
            for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
                try:
                    s = socket.socket(socket.AF_UNIX, kind); s.connect(name); reached.append(name)
                except OSError: pass
        for fd in (0, 1, 2):
            try: socket.socket(fileno=os.dup(fd)).getpeername(); reached.append(fd)
            except OSError: pass
        print(reached)"""
    report, out, _err = run_python(core_path, script)
    assert (0, b"[]\n") == (report.exited, out)


@pytest.mark.parametrize("code", [124, 125, 126, 127, 137, 159, 2, 99])
def test_exit_code_of_ours_used_by_the_command_is_its_own(core_path, code):
    """Exit codes that the command line uses for our own words are the command's own when it uses them."""
    request = Request(command=("sh", "-c", f"echo 'timed out after 30000 ms' >&2; exit {code}"))
    result = execute(request, core_path=str(core_path))
    assert ("error", code, "E3003") == (result.status, result.exit_code, result.error.code)


@pytest.mark.parametrize("number", [9, 15])
def test_exit_signal_of_the_command_is_no_limit(core_path, number):
    """A command that kills itself was not ended by a limit, nor by the clock."""
    result = execute(Request(command=("sh", "-c", f"kill -{number} $$")), core_path=str(core_path))
    assert ("error", "E3005") == (result.status, result.error.code)


def test_init_cannot_be_made_to_look_lost(core_path):
    """A command that uses all the processors, files and processes it may does not take process 1 with it."""
    script = """if True:
        import os, time
        fds = []
        try:
            while True: fds.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        children = 0
        try:
            while os.fork() != 0: children += 1
            time.sleep(1000)
        except OSError: pass
        os._exit(7)"""
    report, *_ = run_python(core_path, script)
    assert (7, "") == (report.exited, report.killed)


def test_init_command_line_is_one_word(core_path):
    """What can be read of process 1 is one word."""
    _report, out, _err = run_command(core_path, "sh", "-c", "cat /proc/1/cmdline /proc/1/comm")
    assert out.split(b"\0")[0] in (b"capsule-core", b"") or out == b"capsule-core\n"
