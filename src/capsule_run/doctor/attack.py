"""Attack a sandbox of this host for real: `capsule-run doctor --attack`.

Creates decoys first: that an attempt finds nothing proves something only if there was something to find. Every attempt is
its own run, so that one that ends its run does not end the others. The decoys are always removed.
"""

from __future__ import annotations

import os
import posix
import socket
import tempfile
import threading

from capsule_run._base.value import Value
from capsule_run.doctor.attack_table import ENDED, PREFIX, ROWS, X86_ROWS
from capsule_run.engine.execute import perform
from capsule_run.request.parse import request_from_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from capsule_run.model.result import Result

    Row = tuple[str, str, str, tuple[str, ...], str]

WORKERS = 4
PATIENCE_MS = 60_000  # a slow machine (an emulated one) needs ten seconds for one attempt
THROUGH = "it succeeded"
LANDLOCK, CLOCK = "Landlock", "clock"  # layers whose attempts need other request fields
LANDLOCK_SCOPES = 6  # the ABI version that restricts abstract sockets
VARIABLE = "CAPSULE_DOCTOR_DECOY"
LIMITS = {"memory_bytes": 64 << 20, "disk_bytes": 32 << 20, "max_output_bytes": 1 << 16, "max_pids": 40}
CONTROL = (
    "a sandbox that lets programs run",
    "none",
    "without it nothing below would mean anything",
    (THROUGH,),
    "pass",
)


class Attempt(Value):
    """One attempt, and whether it was stopped."""

    name: str
    layer: str  # the first that should stop it
    story: str  # what it would achieve
    outcome: str  # what the attacker saw
    stopped: bool


PLACE = "/var/tmp"


def temporary_directory() -> tempfile.TemporaryDirectory[str]:
    """Make a directory in /var/tmp, or, since small images of containers lack that, where temporary files are made."""
    return tempfile.TemporaryDirectory(
        prefix="capsule-doctor-", dir=PLACE if os.access(PLACE, os.W_OK | os.X_OK) else None
    )


class Decoys:
    """A file, two listeners, a variable and a descriptor to find outside the sandbox. A context manager that removes them."""

    def __init__(self) -> None:
        self._folder = temporary_directory()
        secret = f"{self._folder.name}/secret"
        with open(secret, "w", encoding="ascii") as file:
            file.write("decoy")
        os.chmod(self._folder.name, 0o755)  # noqa: S103  # its mode must not be what stops the attempt
        self._tcp, self._unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        abstract = b"\0capsule-doctor-" + posix.urandom(8).hex().encode()
        self._unix.bind(abstract)
        self._unix.listen()
        self._leaked = posix.open(self._folder.name, posix.O_RDONLY)
        os.set_inheritable(self._leaked, True)  # noqa: FBT003  # positional only
        os.environ[VARIABLE] = "decoy"
        self.names = {
            "secret": secret,
            "port": self._tcp.getsockname()[1],
            "abstract": abstract,
            "host_pid": posix.getpid(),
            "variable": VARIABLE,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        del os.environ[VARIABLE]
        posix.close(self._leaked)
        self._unix.close()
        self._tcp.close()
        self._folder.cleanup()


def _numbers(architecture: str) -> dict[str, int]:
    module = __import__(f"capsule_run.seccomp.tables.syscalls_{architecture}", fromlist=["NUMBERS"])
    numbers: dict[str, int] = module.NUMBERS
    return numbers


def _program(row: Row, names: dict[str, object], numbers: dict[str, int]) -> str:
    needed = {name: number for name, number in numbers.items() if f"N[{name!r}]" in row[4]}
    decoys = "".join(f"{name} = {decoy!r}\n" for name, decoy in names.items())
    body = "".join(f"    {line}\n" for line in row[4].splitlines())
    return (
        f"{PREFIX}N = {needed!r}\n{decoys}try:\n{body}except OSError as error:\n"
        "    print(errno.errorcode.get(error.errno, error))\n"
        f"except Exception as error:\n    print(type(error).__name__)\nelse:\n    print({THROUGH!r})\n"
    )


def outcome(result: Result) -> str:
    """Return what the attacker saw: an errno name, the code of the limit or rule that ended it, or THROUGH."""
    error = result.error
    if error is not None and error.code != "E3003":
        if error.code == "E3005" and result.signal is not None:
            return result.signal
        return ENDED if error.code.startswith("E5") else error.code
    lines = result.stdout.split("\n")
    return lines[-2] if len(lines) > 1 else "it ended without a word"


def _run(row: Row, names: dict[str, object], numbers: dict[str, int]) -> Result:
    request = {
        "command": ["python3", "-I", "-S", "-c", _program(row, names, numbers)],
        "resources": LIMITS,
        "isolation": {"network": row[1] == LANDLOCK},
        "timeout_ms": 400 if row[1] == CLOCK else PATIENCE_MS,
    }
    return perform(request_from_mapping(request))


def _judged(row: Row, result: Result) -> Attempt:
    saw = outcome(result)
    return Attempt(name=row[0], layer=row[1], story=row[2], outcome=saw, stopped=saw in row[3])


def _rows(architecture: str, landlock_abi: object) -> list[Row]:
    """Return the rows that apply to this architecture and kernel."""
    rows = [*ROWS, *(X86_ROWS if architecture == "x86_64" else ())]
    scopes = isinstance(landlock_abi, int) and landlock_abi >= LANDLOCK_SCOPES
    return [row for row in rows if scopes or row[1] != LANDLOCK]


def _ignored(_done: int, _total: int) -> None:
    """Report no progress."""


def attack_all(on_attempt: Callable[[int, int], None] = _ignored) -> list[Attempt]:
    """Run all attempts, WORKERS at a time, and return them in the order of the table.

    Return only the harmless control attempt if that fails: then a failure of the others would prove nothing.

    :param on_attempt: called after each attempt with how many have ended, and how many there are.
    """
    architecture = posix.uname().machine
    numbers = _numbers(architecture)
    found: dict[int, Attempt] = {}
    with Decoys() as decoys:
        control = _run(CONTROL, decoys.names, numbers)
        if outcome(control) != THROUGH:
            return [_judged(CONTROL, control)]
        rows = list(_rows(architecture, control.isolation.get("landlock_abi")))
        waiting = iter(enumerate(rows))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    at, row = next(waiting, (-1, CONTROL))
                if at < 0:
                    return
                judged = _judged(row, _run(row, decoys.names, numbers))
                with lock:
                    found[at] = judged
                    on_attempt(len(found), len(rows))

        workers = [threading.Thread(target=work) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for at, row in enumerate(rows):
            if found[at].outcome == "E2006":  # never begun: too much at a time for a slow machine
                found[at] = _judged(row, _run(row, decoys.names, numbers))
    return [found[at] for at in sorted(found)]
