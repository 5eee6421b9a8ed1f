"""Run an interpreter as a child process, and relay its streams and its messages in frames. Runs inside the sandbox.

The interpreter's standard streams are pipes that only this process reads, so that it can write anything there, close them or
crash, and no output is lost: reading does not depend on a thread of the interpreter, which C code could block. The interpreter
itself stays a process with one thread, which forks without a warning. This process decides nothing: it forwards bytes.

From the host, on standard input: a byte (REQUEST or INTERRUPT), a length of four bytes, the payload.
To the host, on standard output: a byte (STDOUT, STDERR, MESSAGES or END), a length of four bytes, at most 64 KiB of payload.

Standard library only, Python 3.8 or later; imports nothing of capsule-run (`contexts/program.py` sends it as text).
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST, INTERRUPT = 1, 2
STDOUT, STDERR, MESSAGES, END = 1, 2, 3, 4
HEADER = struct.Struct(">BI")
CHUNK = 1 << 16
MOST_WAITING = 1 << 18  # bytes that wait for the host before the pipes are left full, so that the code waits
LARGEST_PIPE = 1 << 20  # what a process without privileges can make of a pipe, and so what was in it at the most
FIRST_HIGH_DESCRIPTOR = 900  # the descriptors of the interpreter's driver: code gets 3 from its first `open`


def high(descriptor: int) -> int:
    """Move a descriptor out of the way of the code. It stays close-on-exec."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    least = FIRST_HIGH_DESCRIPTOR if soft == resource.RLIM_INFINITY else max(3, min(FIRST_HIGH_DESCRIPTOR, soft - 8))
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(descriptor)
    return moved


class Relay:
    """The pipes to and from one interpreter."""

    def __init__(self) -> None:
        self.waiting = bytearray()  # for the host
        self.requests = bytearray()  # for the interpreter
        self.received = bytearray()  # of a frame of the host that is not complete
        self.host_is_there = True
        self.child = 0
        self.ended = False
        self.woken, self.wake = os.pipe()
        self.request_end, self.request_write = os.pipe()
        self.readers: dict[int, int] = {}  # descriptor → kind of frame
        self.ends: list[int] = []
        for kind in (MESSAGES, STDOUT, STDERR):
            reader, writer = os.pipe()
            self.readers[reader] = kind
            self.ends.append(writer)

    def start(self, interpreter: Callable[[int, int], None]) -> bool:
        """Fork. Return False in the parent; in the child return True after the interpreter has ended."""
        for descriptor in (self.woken, self.wake, self.request_write, *self.readers):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        self.child = os.fork()
        if self.child == 0:
            self.become(interpreter)
            return True
        for descriptor in (self.request_end, *self.ends):
            os.close(descriptor)
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # the code may find this process in procfs: its standard error has no limit outside
        os.close(nowhere)
        return False

    def become(self, interpreter: Callable[[int, int], None]) -> None:
        """In the child: put the pipes in place of the standard streams, and run the interpreter."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        messages, out, err = self.ends
        empty = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((empty, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        for descriptor in (empty, out, err, self.woken, self.wake, self.request_write, *self.readers):
            os.close(descriptor)
        interpreter(high(self.request_end), high(messages))

    def loop(self) -> None:
        """Relay until the host has closed its end and the interpreter is gone, or nobody reads what it writes."""
        while self.host_is_there or not self.ended or self.waiting:
            poll = select.poll()
            for descriptor, events in self.interest().items():
                poll.register(descriptor, events)
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self.woken in ready:
                self.on_signal()
            if 0 in ready:
                self.read_host()
            if not self.ended:
                self.read_interpreter([descriptor for descriptor in self.readers if descriptor in ready])
            if self.requests:
                self.requests = self.written(self.request_write, self.requests)
            if self.waiting:
                self.waiting = self.written(1, self.waiting)

    def interest(self) -> dict[int, int]:
        """Return what is waited for."""
        found = {self.woken: select.POLLIN}
        if self.host_is_there:
            found[0] = select.POLLIN
        if self.waiting:
            found[1] = select.POLLOUT
        if self.requests and not self.ended:
            found[self.request_write] = select.POLLOUT
        if not self.ended and len(self.waiting) < MOST_WAITING:
            found.update(dict.fromkeys(self.readers, select.POLLIN))
        return found

    def read_host(self) -> None:
        """Take frames from the host: requests are forwarded as they are, an interrupt becomes a signal."""
        block = self.read(0)
        if block is None:
            return
        self.received += block
        if not block:
            self.host_is_there = False
            os.close(self.request_write)  # the interpreter reads end of file after its cell, and ends
            self.requests.clear()
            return
        while len(self.received) >= HEADER.size:
            kind, length = HEADER.unpack_from(self.received)
            if len(self.received) < HEADER.size + length:
                return
            payload = self.received[HEADER.size : HEADER.size + length]
            del self.received[: HEADER.size + length]
            if kind == INTERRUPT:
                self.interrupt()
            else:
                self.requests += struct.pack(">I", length) + payload

    def on_signal(self) -> None:
        """Pass an interrupt on, and notice the interpreter's end."""
        numbers = self.read(self.woken) or b""
        if signal.SIGINT in numbers:
            self.interrupt()
        if self.ended:
            return
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if pid == self.child:
            self.ended = True
            self.requests.clear()
            self.read_interpreter(list(self.readers))
            died = os.WIFSIGNALED(status)
            end = f"signal {os.WTERMSIG(status)}" if died else f"exit {os.WEXITSTATUS(status)}"
            self.frame(END, end.encode())

    def interrupt(self) -> None:
        """Send SIGINT to the interpreter, which raises it in a running cell."""
        if not self.ended:
            os.kill(self.child, signal.SIGINT)

    def read_interpreter(self, ready: list[int]) -> None:
        """Forward what the interpreter wrote: what it printed before a message comes before the message."""
        kinds = {self.readers[descriptor]: descriptor for descriptor in ready}
        messages = self.take(kinds[MESSAGES], LARGEST_PIPE if self.ended else CHUNK) if MESSAGES in kinds else []
        for descriptor, kind in list(self.readers.items()):
            if kind != MESSAGES and (messages or kind in kinds):
                for block in self.take(descriptor, LARGEST_PIPE if messages or self.ended else CHUNK):
                    self.frame(kind, block)
        for block in messages:
            self.frame(MESSAGES, block)

    def take(self, descriptor: int, at_most: int) -> list[bytes]:
        """Read what is in a pipe now; its writers may go on."""
        blocks: list[bytes] = []
        while at_most > 0:
            block = self.read(descriptor)
            if block == b"":
                del self.readers[descriptor]  # every writer has closed it
                os.close(descriptor)
            if not block:
                break
            blocks.append(block)
            at_most -= len(block)
        return blocks

    def frame(self, kind: int, payload: bytes) -> None:
        self.waiting += HEADER.pack(kind, len(payload)) + payload

    def read(self, descriptor: int) -> bytes | None:
        """Return what can be read now; None if there is nothing, empty at the end of file."""
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            return None

    def written(self, descriptor: int, data: bytearray) -> bytearray:
        """Write what fits, and return the rest."""
        try:
            del data[: os.write(descriptor, data)]
        except BlockingIOError:
            pass
        except OSError:
            if descriptor == 1:  # nobody reads: the sandbox is ending
                os._exit(1)
            data.clear()  # the interpreter closed its end; its own end is reported when it comes
        return data


def main(interpreter: Callable[[int, int], None]) -> None:
    """Run `interpreter` in a child process, with the descriptors of its requests and its messages, and relay."""
    relay = Relay()
    if not relay.start(interpreter):
        relay.loop()
        sys.stdout = sys.stderr = None
        os._exit(0)
