"""Ending a run from another thread, also one that has not started yet. Rank 3; used by `aio` and `server`."""

from __future__ import annotations

import posix
from _stat import S_ISSOCK
from errno import EACCES, EBADF, EMFILE, EMSGSIZE, ENOBUFS, ENOENT, ENOTDIR, EPERM

from capsule_run._base.errors import CapsuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable, Sequence
    from typing import Self


SIGTERM = 15  # signal(7); `signal` would import `enum`


class Cancel:
    """The wish to end one run. `started` is its `on_start`; `cancel` may come before it, beside it or after its end."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self.wanted = False

    def started(self, run: Run) -> None:
        """Remember the run, and end it at once if that is wanted already."""
        self._run = run
        if self.wanted:
            run.cancel(SIGTERM)

    def cancel(self) -> None:
        """End the run as soon as there is one."""
        # Wanted first: `started` looks only after it has said which run it is. Both may send; one is enough.
        self.wanted = True
        if self._run is not None:
            self._run.cancel(SIGTERM)


# Beside us, and never looked for elsewhere.
PATH = (__file__ if __file__.startswith("/") else f"{posix.getcwd()}/{__file__}").rpartition("/")[0] + "/_core"
_REPORT_BYTES = 4096
_MESSAGE_BYTES = 1 << 16  # of a half that is sent in a message, word included (core/launcher.c)
_MOST_FDS = 2
MSG_NOSIGNAL = 0x4000
NEVER_RAN = 127 << 8  # the wait status of an early core whose file could not be executed (core/command.c)


def memory_file(name: str, content: bytes = b"") -> int:
    """A new descriptor of a file in memory with `content`, read from its start. The caller owns it."""
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
    """Like `memory_file`, and nobody can change it any more: the core takes its plans in no other form."""
    import fcntl  # a run's first half goes without

    fd = memory_file(name, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


class Launcher:
    """One running core. A context manager that owns its socket and reaps its process; leaving it ends the sandbox.

    What the native command has started is told its first half by plain writes: `_socket` is a fifth of a millisecond of
    imports, which can be had while the sandbox is built.
    """

    def __init__(self, *, path: str = PATH, stderr: int | None = None) -> None:
        """Spawn the core. Raises CapsuleError E2003 when its file is missing or may not run, E6003 without resources."""
        self.is_early = False
        self._made: _socket.socket | None = None  # once anything but a first half is to be said
        if _early and path == PATH and stderr is None:
            self._pid, self._fd = _early.pop()
            self.is_early = True
            if not self._is_gone():
                return
            self.close()
            self.is_early = False
        import _socket

        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self._made, self._fd = ours, ours.fileno()
        self._pid = 0
        try:
            self._pid = _spawn(path, theirs.fileno(), stderr)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    def _is_gone(self) -> bool:
        """Whether one that has been told nothing yet has ended already: it could not be run, or was killed."""
        try:
            return posix.waitid(posix.P_PID, self._pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT) is not None
        except OSError:
            return True

    @property
    def _socket(self) -> _socket.socket:
        if self._made is None:
            import _socket

            if self._fd < 0:
                raise OSError(EBADF, posix.strerror(EBADF))
            self._made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, self._fd)
        return self._made

    @property
    def pid(self) -> int:
        """The launcher's process id on the host."""
        return self._pid

    def fileno(self) -> int:
        """The control socket: readable when the core has something to say, or is gone."""
        return self._fd

    def send_half(self, half: str, text: bytes, fds: Sequence[int] = ()) -> None:
        """Send one half of a plan, or a birth: in a message of its own, or in a sealed file where descriptors go along."""
        message = b"%s\0%s" % (half.encode(), text)
        if not fds and len(message) <= _MESSAGE_BYTES:
            try:
                if self._made is None:
                    posix.write(self._fd, message)
                else:
                    self._made.send(message, MSG_NOSIGNAL)
            except (BrokenPipeError, ConnectionResetError):
                return
            except OSError as error:
                if error.errno not in (EMSGSIZE, ENOBUFS):  # what this host lets a message be
                    raise
            else:
                return
        fd = sealed_file(f"capsule-{half}", text)
        try:
            self.send(half, (fd, *fds))
        finally:
            posix.close(fd)

    def send(self, word: str, fds: Iterable[int] = ()) -> None:
        """Send one message with descriptors; a core that is gone is found out by `receive`, which knows more."""
        import _socket

        packed = b"".join(fd.to_bytes(4, "little", signed=True) for fd in fds)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if packed else []
        try:
            self._socket.sendmsg([word.encode()], ancillary, MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            if error.errno != EBADF:  # closed meanwhile: whoever cancels from another thread may come late
                raise

    def receive(self) -> bytes:
        """The next message; empty when the core has ended.

        A core that ended without reading all of ours resets the socket, which the kernel tells before it gives what the
        core said last: so ask again.
        """
        for _ in range(2):
            try:
                return self._socket.recv(_REPORT_BYTES)
            except ConnectionResetError:
                continue
        return b""

    def receive_ready(self) -> tuple[bytes, list[int]]:
        """Like `receive`, for the message that may bring descriptors; they are the caller's."""
        import _socket

        fds: list[int] = []
        try:
            message, ancillary, flags, _address = self._socket.recvmsg(
                _REPORT_BYTES, _socket.CMSG_SPACE(4 * _MOST_FDS), _socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return self.receive(), fds
        for level, kind, packed in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds += [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed) - 3, 4)]
        if flags & _socket.MSG_CTRUNC:  # of what we may receive there is only one cause
            while fds:
                posix.close(fds.pop())
            raise OSError(EMFILE, posix.strerror(EMFILE))
        return message, fds

    def has_news(self, seconds: float) -> bool:
        """Whether there is something to receive, or the core is gone; waits so long for it at the most."""
        import _socket

        self._socket.settimeout(seconds)
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True  # told once, and `receive` asks again
        finally:
            self._socket.settimeout(None)
        return True

    def close(self) -> int:
        """Let go: a sandbox that still lives ends with its core. Returns the core's wait status; a second call is 0."""
        if self._made is not None:
            self._made.close()
        elif self._fd >= 0:
            posix.close(self._fd)
        self._fd = -1
        pid, self._pid = self._pid, 0
        if not pid:
            return 0
        try:
            return posix.waitpid(pid, 0)[1]
        except ChildProcessError:  # the embedding program reaps every child, or ignores SIGCHLD
            return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


# The core that the native command started before us, if any: its process id and its control socket.
_early: list[tuple[int, int]] = []


def adopt(option: object) -> None:
    """Take over the core of `-X capsule-core=SOCKET:PID`, which core/command.c gives; whatever else that is, is not one."""
    if not isinstance(option, str):
        return
    fd, _colon, pid = option.partition(":")
    try:
        control, child = int(fd), int(pid)
        if S_ISSOCK(posix.fstat(control).st_mode):
            posix.set_inheritable(control, False)  # noqa: FBT003  # it takes no keyword
            _early.append((child, control))
    except (ValueError, OSError):
        return


def let_go() -> None:
    """End a core that was started early and that nobody wanted: no run came of the words."""
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
        if error.errno == EPERM:  # not the file's doing: libc could not make a process
            hint = "a seccomp filter around this process refuses `clone3`: it has to answer ENOSYS, as newer container engines do"
            raise CapsuleError("E2005", f"cannot start the core: {why}", hint=hint) from None
        if error.errno in (ENOENT, EACCES, ENOTDIR):
            raise CapsuleError("E2003", f"cannot run the core `{path}`: {why}") from None
        raise CapsuleError("E6003", f"cannot start the core: {why}") from None


class Run:
    """One run under way. `cancel` may be called from a signal handler or another thread."""

    __slots__ = ("_core", "cancelled_by")

    def __init__(self, core: Launcher) -> None:
        self._core = core
        self.cancelled_by = 0

    def cancel(self, signal_number: int) -> None:
        """End the sandbox now; the result says that `signal_number` did it."""
        self.cancelled_by = self.cancelled_by or signal_number
        self._core.send("kill")

    def signal(self, signal_number: int) -> None:
        """Send a signal to the command's process group."""
        self._core.send(f"signal {signal_number}")
