"""Parts of a report or a record that only some runs have: failures of set-up, denied calls, processes, threads, samples."""

from __future__ import annotations

from capsule_run._base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Sample(Value):
    """The host's counters at one moment. `waited_us` has the totals of /proc/pressure, absent where there is none."""

    at_ns: int
    processors: int
    steal_ticks: int
    waited_us: Mapping[str, int]


class StreamError(Value):
    """A stream of the caller that failed: `stdin`, `stdout` or `stderr`."""

    stream: str
    errno: int


class RejectedPlan(Value):
    """Half of a plan, `room` or `payload`, that the launcher took for invalid at `step`."""

    half: str
    step: int
    reason: str


class FailedStep(Value):
    """The step of a half, `room` or `payload`, that failed. A number beyond the last step is no step's failure."""

    half: str
    step: int
    errno: int


class DeniedCall(Value):
    """The first denied call of its kind. `errno` 65535 stands for the end of the run."""

    call: int
    errno: int
    argument_0: int
    argument_1: int
    argument_2: int
    argument_3: int
    argument_4: int
    argument_5: int
    name: str
    command_line: str  # words end with a NUL

    @property
    def arguments(self) -> tuple[int, ...]:
        """The six argument registers."""
        first = self.argument_0, self.argument_1, self.argument_2
        return (*first, self.argument_3, self.argument_4, self.argument_5)


class DeniedCount(Value):
    """How many denied calls of a kind there were in the end."""

    call: int
    errno: int
    count: int


class ProcessSeen(Value):
    """A process that was about to execute a program (`moment` 0) or to end (1), or went on after it executed one (2)."""

    moment: int
    at_ns: int
    outside: int  # its number on the host
    inside: int
    parent_outside: int
    started_ticks: int
    user_ticks: int
    system_ticks: int
    peak_kib: int
    code: int  # of exit_group(2)
    name: str
    command_line: str


class ProcessEnded(Value):
    """The end of a process that the launcher did not stop before it. Only of a zombie its use and name are known."""

    at_ns: int
    outside: int
    is_known: int  # whether `wait_status` is
    wait_status: int
    is_zombie: int
    user_ticks: int
    system_ticks: int
    name: str


class ThreadSeen(Value):
    """A thread shortly before the run was killed: the content of three files of procfs."""

    pid: int
    tid: int
    stat: str
    syscall: str
    wchan: str
