"""The living sandboxes of one client, and the processes in them: what the tools that keep state work on. Used by `stateful`.

The operator says how many there may be, and how long one lives without a call; the limits of each are the operator's.
"""

from __future__ import annotations

import threading

from capsule_run._base.errors import CapsuleError
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.validators import invalid, shown
from capsule_run.sandbox.box import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.agents.operator import Operator
    from capsule_run.sandbox.process import Process

MOST_PROCESSES = 32  # of a client
KEPT_OUTPUT = 256 << 10  # characters of each stream between two reads


class Unread:
    """What a process wrote to one stream since the last read: the end of it, if it is much."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[str] = []
        self._length = self._omitted = 0

    def add(self, text: str) -> None:
        """Take a piece, in the thread of the process."""
        with self._lock:
            self._pieces.append(text)
            self._length += len(text)
            if self._length > 2 * KEPT_OUTPUT:
                self._shorten()

    def _shorten(self) -> None:
        kept = "".join(self._pieces)[-KEPT_OUTPUT:]
        self._omitted += self._length - len(kept)
        self._pieces, self._length = [kept], len(kept)

    def take(self) -> tuple[str, int]:
        """Return the text, and how many characters before it are not kept; both begin anew."""
        with self._lock:
            self._shorten()
            text, omitted = "".join(self._pieces), self._omitted
            self._pieces, self._length, self._omitted = [], 0, 0
        return text, omitted


class Started:
    """A process that a model started, with what it has not read yet."""

    def __init__(self, box: Sandbox, command: str) -> None:
        self.stdout, self.stderr = Unread(), Unread()
        self.process: Process = box.start(command, on_stdout=self.stdout.add, on_stderr=self.stderr.add)
        self.box = box

    def wait(self, seconds: float) -> int | None:
        """Wait for the end of the process, at most so long; return its exit code, None while it runs."""
        if not self.box.info().is_alive:
            return self.process.poll()
        with self.box.in_use():
            try:
                self.process.wait(seconds)
            except TimeoutError:
                return None
            return self.process.poll()


class Sandboxes:
    """The sandboxes of one client by name, and its processes."""

    def __init__(self, limits: Operator, *, most: int, idle_timeout_ms: int | None) -> None:
        self._limits, self.most, self._idle_ms = limits, most, idle_timeout_ms
        self._boxes: dict[str, Sandbox] = {}
        self._processes: dict[str, Started] = {}
        self._count = 0
        self._lock = threading.Lock()

    def create(self) -> str:
        """Make a sandbox and return its name. Raises CapsuleError E1004 if there are as many as the operator allows."""
        with self._lock:
            self._forget_ended()
            if len(self._boxes) >= self.most:
                message = f"there are {len(self._boxes)} sandboxes, as many as there may be"
                raise CapsuleError("E1004", message, hint="close one with `close_sandbox`, or use one of them")
            request = request_from_mapping({"command": ["true"], **self._limits.limits})
            box = Sandbox(request=request, idle_timeout_ms=self._idle_ms)
            self._count += 1
            name = f"sandbox-{self._count}"
            self._boxes[name] = box
        return name

    def get(self, name: object) -> tuple[str, Sandbox]:
        """Return a sandbox by its name; without one, the first, which is made if there is none."""
        with self._lock:
            self._forget_ended()
            if name is None:
                name = next(iter(self._boxes), None)
            if name in self._boxes:
                box = self._boxes[str(name)]
                with box.in_use():  # its idle time begins anew
                    return str(name), box
            names = ", ".join(f"`{each}`" for each in self._boxes) or "none"
        if name is None:
            return self.get(self.create())
        raise invalid("E1005", "sandbox", f"there is no {shown(name)} any more; there are: {names}", hint=_MAKE_ONE)

    def close(self, name: object) -> str:
        """End a sandbox with everything in it."""
        found, box = self.get(name)
        with self._lock:
            self._boxes.pop(found, None)
        box.kill()
        return found

    def start(self, box: Sandbox, command: str) -> str:
        """Start a process and return its name."""
        with self._lock:
            ended = [name for name, each in self._processes.items() if each.box not in self._boxes.values()]
            for name in ended:
                del self._processes[name]
            if len(self._processes) >= MOST_PROCESSES:
                raise CapsuleError(
                    "E1004", f"there are {MOST_PROCESSES} processes", hint="stop one with `stop_process`"
                )
        started = Started(box, command)
        with self._lock:
            self._count += 1
            name = f"process-{self._count}"
            self._processes[name] = started
        return name

    def process(self, name: object) -> Started:
        """Return a process by its name. Raises CapsuleError E1005."""
        found = self._processes.get(str(name))
        if found is None:
            raise invalid("E1005", "process", f"there is no {shown(name)}", hint="start one with `start_process`")
        return found

    def forget(self, name: object) -> None:
        """Forget a process that was stopped."""
        self._processes.pop(str(name), None)

    def end(self) -> None:
        """End every sandbox."""
        with self._lock:
            boxes, self._boxes = list(self._boxes.values()), {}
        for box in boxes:
            box.kill()

    def _forget_ended(self) -> None:
        for name in [name for name, box in self._boxes.items() if not box.info().is_alive]:
            self._boxes.pop(name).kill()


_MAKE_ONE = "make one with `create_sandbox`, or leave `sandbox` out; one that was not used for a while has ended"
