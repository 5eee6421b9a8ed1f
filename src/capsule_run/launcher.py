"""Start the launcher (the C core), send it the halves of a plan, receive its report, and cancel a run.

The launcher is the only process that Python starts.
"""

from __future__ import annotations

import posix
import sys
from _stat import S_ISSOCK
from errno import EACCES, EBADF, EMFILE, EMSGSIZE, ENOBUFS, ENOENT, ENOTDIR, EPERM

from capsule_run._base.errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Self


def _frozen_core() -> tuple[str, str]:
    """Return the path of the core in the static file, which is a descriptor of this process, and the path of the file."""
    import _capsule_static  # type: ignore[import-not-found]

    return str(_capsule_static.CORE), str(_capsule_static.FILE)


SIGKILL, SIGTERM = 9, 15  # signal(7); `signal` would import `enum`


class Cancel:
    """Cancel one run from another thread, at any time: before it starts, while it runs or after it has ended.

    Pass `started` as the run's `on_start`.
    """

    def __init__(self) -> None:
        self._run: Run | None = None
        self.wanted = False

    def started(self, run: Run) -> None:
        """Remember the run; end it now if `cancel` was called before."""
        self._run = run
        if self.wanted:
            run.cancel(SIGTERM)

    def cancel(self) -> None:
        """End the run, now or as soon as it starts."""
        # `wanted` is set first: `started` reads it only after it has set `_run`. Both may cancel; once is enough.
        self.wanted = True
        if self._run is not None:
            self._run.cancel(SIGTERM)


if "_capsule_static" in sys.builtin_module_names:  # the static file (packaging/static/main.c), which holds the core
    PATH, FILE = _frozen_core()
else:  # in this directory; no other place is searched
    PATH = (__file__ if __file__.startswith("/") else f"{posix.getcwd()}/{__file__}").rpartition("/")[0] + "/_core"
    FILE = PATH
_REPORT_BYTES = 4096
_MESSAGE_BYTES = 1 << 16  # largest message with half of a plan, its first word included (core/launcher.c)
_MAX_FDS = 8  # with `ready`: two directories and six namespaces
MSG_NOSIGNAL = 0x4000
NEVER_RAN = 127 << 8  # the wait status of an early launcher whose file could not be executed (core/command.c)


def memory_file(name: str, content: bytes = b"") -> int:
    """Create a file in memory with `content`; return its descriptor, positioned at the start. The caller owns it."""
    fd = posix.memfd_create(name, posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[posix.write(fd, view) :]
        posix.lseek(fd, 0, 0)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def sealed_file(name: str, content: bytes) -> int:
    """Create a memory file that nobody can change any more: the launcher accepts a plan in no other file."""
    import fcntl  # most plans fit into a message

    fd = memory_file(name, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


class Launcher:
    """A running launcher process. A context manager that owns its socket and reaps it; leaving it ends the sandbox.

    An early launcher (started by the native command) gets its first half with write(2): importing `_socket` costs 0.2 ms,
    which is spent while the sandbox is built.
    """

    def __init__(self, *, path: str = PATH, stderr: int | None = None) -> None:
        """Start a launcher, or adopt the early one.

        Raises CapsuleError E2003 if its file is missing or not executable, E2005 if a seccomp filter denies it, E6003 if the
        host is out of resources.
        """
        self.is_early = False
        self._control: _socket.socket | None = None  # created for anything but the first half
        if _early and path == PATH and stderr is None:
            self._pid, self._fd = _early.pop()
            self.is_early = True
            if not self.has_ended():
                return
            self.close()
            self.is_early = False
        import _socket

        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self._control, self._fd = ours, ours.fileno()
        self._pid = 0
        try:
            self._pid = _spawn(path, theirs.fileno(), stderr)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    def has_ended(self) -> bool:
        """Return whether the launcher has ended: an early one could not be executed, or it was killed."""
        try:
            return posix.waitid(posix.P_PID, self._pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT) is not None
        except OSError:
            return True

    @property
    def _socket(self) -> _socket.socket:
        if self._control is None:
            import _socket

            if self._fd < 0:
                raise OSError(EBADF, posix.strerror(EBADF))
            self._control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, self._fd)
        return self._control

    @property
    def pid(self) -> int:
        """The launcher's process id on the host."""
        return self._pid

    def fileno(self) -> int:
        """Return the control socket: readable if a message waits or the launcher has ended."""
        return self._fd

    def send_half(self, half: str, text: bytes, fds: Sequence[int] = ()) -> None:
        """Send half of a plan, or its preamble: in one message, or as a sealed file if it is too long for a message."""
        message = b"%s\0%s" % (half.encode(), text)
        if len(message) <= _MESSAGE_BYTES:
            try:
                self._send(message, fds)
            except OSError as error:
                if error.errno not in (EMSGSIZE, ENOBUFS):  # larger than a message may be on this host
                    raise
            else:
                return
        fd = sealed_file(f"capsule-{half}", text)
        try:
            self.send(half, (fd, *fds))
        finally:
            posix.close(fd)

    def send_command(self, text: bytes, fds: Sequence[int]) -> None:
        """Send the rest of a payload's half of the plan, whose beginning was sent as `confinement`."""
        self._send(b"command\0" + text, fds)

    def send(self, word: str, fds: Sequence[int] = ()) -> None:
        """Send one word with descriptors."""
        try:
            self._send(word.encode(), fds)
        except OSError as error:
            if error.errno != EBADF:  # closed in the meantime: another thread may cancel late
                raise

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        """Send one message with descriptors. Ignores that the launcher has ended: `receive` reports it."""
        try:
            if not fds and self._control is None:
                posix.write(self._fd, message)
                return
            import _socket

            packed = b"".join(fd.to_bytes(4, "little", signed=True) for fd in fds)
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if packed else []
            self._socket.sendmsg([message], ancillary, MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> bytes:
        """Return the next message; empty if the launcher has ended.

        A launcher that ended with unread messages resets the socket. The kernel reports the reset before it delivers the
        launcher's last message, so receive twice.
        """
        for _ in range(2):
            try:
                return self._socket.recv(_REPORT_BYTES)
            except ConnectionResetError:
                continue
        return b""

    def receive_ready(self) -> tuple[bytes, list[int]]:
        """Receive the next message and its descriptors, which the caller owns.

        Raises OSError EMFILE if this process cannot take the descriptors.
        """
        import _socket

        fds: list[int] = []
        try:
            message, ancillary, flags, _address = self._socket.recvmsg(
                _REPORT_BYTES, _socket.CMSG_SPACE(4 * _MAX_FDS), _socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return self.receive(), fds
        for level, kind, packed in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds += [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed) - 3, 4)]
        if flags & _socket.MSG_CTRUNC:  # with room for all of them, the only cause is our limit of open files
            while fds:
                posix.close(fds.pop())
            raise OSError(EMFILE, posix.strerror(EMFILE))
        return message, fds

    def wait_readable(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether a message waits or the launcher has ended."""
        import _socket

        if seconds:
            self._socket.settimeout(seconds)
        try:
            self._socket.recv(1, _socket.MSG_PEEK | (0 if seconds else _socket.MSG_DONTWAIT))
        except (TimeoutError, BlockingIOError):  # the second for no seconds at all
            return False
        except ConnectionResetError:
            return True  # the kernel reports the reset once; `receive` gets the message
        finally:
            if seconds:
                self._socket.settimeout(None)
        return True

    def close(self) -> int:
        """Close the socket, which ends the sandbox, and reap the launcher. Return its wait status; 0 from the second call on."""
        if self._control is not None:
            self._control.close()
        elif self._fd >= 0:
            posix.close(self._fd)
        self._fd = -1
        pid, self._pid = self._pid, 0
        if not pid:
            return 0
        try:
            return posix.waitpid(pid, 0)[1]
        except ChildProcessError:  # the calling program reaps every child, or ignores SIGCHLD
            return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


# The launcher that the native command started before Python, if any: its process id and its control socket.
_early: list[tuple[int, int]] = []


def adopt(option: object) -> None:
    """Adopt the early launcher of `-X capsule-core=SOCKET:PID` (core/command.c). Ignore any other value."""
    if not isinstance(option, str):
        return
    fd, _colon, pid = option.partition(":")
    try:
        control, child = int(fd), int(pid)
        if S_ISSOCK(posix.fstat(control).st_mode):
            posix.set_inheritable(control, False)  # noqa: FBT003  # takes no keyword
            _early.append((child, control))
    except (ValueError, OSError):
        return


def discard_early() -> None:
    """End the early launcher if no run used it."""
    while _early:
        pid, control = _early.pop()
        posix.close(control)
        try:
            posix.waitpid(pid, 0)
        except ChildProcessError:
            return


def _spawn(path: str, control: int, stderr: int | None) -> int:
    actions = [
        (posix.POSIX_SPAWN_DUP2, control, 0),
        (posix.POSIX_SPAWN_OPEN, 1, "/dev/null", posix.O_RDWR, 0),
        (posix.POSIX_SPAWN_DUP2, 1 if stderr is None else stderr, 2),
    ]
    try:
        return posix.posix_spawn(path, ["capsule-core"], {}, file_actions=actions)
    except OSError as error:
        why = posix.strerror(error.errno or 0).lower()
        if error.errno == EPERM:  # not because of the file: libc could not create a process
            hint = "a seccomp filter around this process denies `clone3`: it must return ENOSYS, as newer container engines do"
            raise CapsuleError("E2005", f"cannot start the core: {why}", hint=hint) from None
        if error.errno in (ENOENT, EACCES, ENOTDIR):
            raise CapsuleError("E2003", f"cannot run the core `{path}`: {why}") from None
        raise CapsuleError("E6003", f"cannot start the core: {why}", details={"errno": error.errno}) from None


class Run:
    """A run that has started. `cancel` may be called from a signal handler or another thread."""

    __slots__ = ("_core", "cancelled_by")

    def __init__(self, core: Launcher) -> None:
        self._core = core
        self.cancelled_by = 0

    @property
    def pid(self) -> int:
        """The launcher's process id on the host; 0 once it has been reaped."""
        return self._core.pid

    def cancel(self, signal_number: int) -> None:
        """End the sandbox now. The result reports `signal_number` as the cause."""
        self.cancelled_by = self.cancelled_by or signal_number
        self._core.send("kill")

    def ask_to_end(self, signal_number: int) -> None:
        """Send the command a signal that is to end it. The result reports the signal as the cause if it does."""
        self.cancelled_by = self.cancelled_by or signal_number
        self.signal(signal_number)

    def resize(self) -> None:
        """Give the command's terminal the size that the caller's has now."""
        self._core.send("resize")

    def signal(self, signal_number: int) -> None:
        """Send a signal to the command's process group."""
        self._core.send(f"signal {signal_number}")
