"""Describe each step of a plan in words, for `--dry-run`, `-v` and error messages.

Pure. `/new` is the future root in the build directory, so it is left out. One row for each verb; a test compares the rows
with the core's list of verbs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.plan import Plan

_WORDS = {
    "namespace": "a private {0} namespace",
    "host-net": "the host's network: everything it reaches can be reached from inside",
    "drop-groups": "give up the caller's supplementary groups",
    "cgroup": "clone init into the cgroup {1}",
    "cgroup-enter": "enter the control group {1} before the command is there",
    "cgroup-join": "enter the room's control group {1} before the command is there",
    "cgroup-file": "read {2} of the control group {1} at the end",
    "memory-notice": "end it when the kernel says that its group is out of memory",
    "uid-map": "user {0} of the sandbox is user {1} of the host",
    "gid-map": "group {0} of the sandbox is group {1} of the host",
    "oom-score-adj": "when the host runs out of memory, end the sandbox first ({0})",
    "setup-clock": "give up when set-up takes longer than {0} ms",
    "guard": "end it when the host replaces {3} in {0}",
    "source": "open {0} as the caller, without following links",
    "inner-source": "open {0} as the caller, without following links",
    "idmap": "show what user {1} and group {2} own of {source0} as the sandbox's own",
    "root": "a new root and private writable space in memory, {0} bytes and {1} files at most",
    "dir": "make directory {0}",
    "file": "make file {0}",
    "copy": "make file {3}, a copy of {0}",
    "fill": "make file {1} of the next {3} bytes that the caller sends",
    "symlink": "make link {0} to {1}",
    "bind": "bind {source0} at {1} ({mode2})",
    "inner-bind": "show {0} at {1} ({mode2})",
    "whiteout": "show nothing by the name {0}",
    "copy-tree": "a private copy at {3}, of at most {4} entries and {5} bytes",
    "overlay": "a private copy-on-write view at {4}",
    "overlay-ro": "a read-only view at {2} that shows no secret by its name, whatever the host does below it",
    "proc": "a private {0} ({mode1})",
    "devpts": "private terminals at {0}",
    "sysctl": "set the limit `{0}` of System V objects to {1}",
    "readonly": "make the root read-only",
    "pivot": "enter the new root and detach the host's",
    "hostname": "name the host `{0}`",
    "network": "a private network namespace with nothing but a loopback interface",
    "offer": "hand a descriptor of {0} to the caller",
    "offer-layer": "hand a descriptor of what is written to {0} to the caller",
    "share": "hand descriptors of the namespaces to the caller, so that other payloads can join",
    "join-cgroup": "clone init into the room's cgroup {1}",
    "join-namespace": "enter the {0} namespace of the room",
    "overlay-at": "help with renames and links in the copy-on-write view at {0}",
    "carry": "keep {0} covered as it is in the room",
    "id": "run as user {0}, group {1}, in a user namespace of its own",
    "umask": "umask {0}",
    "nice": "give way to others, by {0} nice levels",
    "rlimit": "{limit0} at most {1}{hard2}",
    "cwd": "work in {0}",
    "command-cwd": "work in {0}, chosen after the rest",
    "new-keyring": "an empty session keyring",
    "no-new-privs": "no program can give privileges any more",
    "no-capabilities": "all capability sets empty, securebits locked",
    "landlock": "Landlock (ABI {0} or later): {landlock1}",
    "landlock-required": "nothing runs without Landlock",
    "landlock-allow": "Landlock: {0} may change",
    "listener-required": "nothing runs unless denied calls can be seen",
    "filter": "a system call filter of {instructions0} instructions",
    "attest": "read back from the kernel what is in force, and stop here if a part of it is not",
    "hold": "run no command, and keep the room for payloads that join it",
    "exe": "execute {0}",
    "arg": "argument {0!r}",
    "env": "environment {0}",
    "stdin": "standard input from descriptor {0}",
    "terminal": "a terminal of its own as standard streams, with the size and modes of descriptor {0}",
    "stdout": "standard output to descriptor {0}, {1} bytes at most, then {2}",
    "stderr": "standard error to descriptor {0}, {1} bytes at most, then {2}",
    "clock": "end it after {0} ms",
    "drain": "wait {0} ms for output of processes that outlive it",
    "keep": "let live on what the command leaves running",
    "memory-watch": "{watch0}",
    "cpu-watch": "{cpu0}",
    "postmortem": "before it is killed for its time, record what its threads do",
    "record": "write down what happens, in at most {1} bytes",
}
_LIMITS = {
    "0": "seconds of processor time of a process",
    "1": "bytes of a file",
    "2": "bytes of data of a process",
    "3": "bytes of a stack",
    "4": "bytes of a core file (1 also keeps it from a helper)",
    "5": "resident bytes of a process",
    "6": "processes and threads",
    "7": "open files of a process",
    "8": "bytes of locked memory",
    "9": "bytes of address space of a process",
    "10": "file locks",
    "11": "queued signals",
    "12": "bytes of message queues",
    "13": "priority",
    "14": "real-time priority",
    "15": "microseconds of real-time processor use",
}
_MODES = {"ro": "read-only", "rw": "read-write", "dev": "device"}


def _source(plan: Plan, slot: str) -> str:
    sources = [step for step in plan.room if step[0] in ("source", "inner-source")]
    return sources[int(slot)][1]


def describe(step: tuple[str, ...], plan: Plan) -> str:
    """Return one step in words. `plan` is the plan that it belongs to, since steps refer to each other by number."""
    verb = step[0]
    fields = [field.removeprefix("/new") or "/" if field.startswith("/new") else field for field in step[1:]]
    extra = {}
    if verb in ("bind", "idmap"):
        extra["source0"] = _source(plan, fields[0])
    if verb in ("bind", "inner-bind"):
        extra["mode2"] = _MODES[fields[2]]
    if verb == "proc":
        extra["mode1"] = _MODES[fields[1]]
    if verb == "rlimit":
        extra["limit0"] = _LIMITS.get(fields[0], f"limit {fields[0]}")
        extra["hard2"] = "" if fields[1] == fields[2] else f", which the command can raise to {fields[2]}"
    if verb == "landlock":
        file_rights = ("no changes outside the writable places",) if fields[1] != "0" else ()
        extra["landlock1"] = " and ".join(
            (*file_rights, *(("no signals or abstract sockets to the outside",) if fields[2] != "0" else ()))
        )
    if verb == "memory-watch":
        records_only = int(fields[0]) >= 1 << 62
        extra["watch0"] = (
            "measure its peak memory" if records_only else f"end it when it uses more than {fields[0]} bytes of memory"
        )
    if verb == "cpu-watch":
        records_only = int(fields[0]) >= 1 << 53
        extra["cpu0"] = (
            "measure its CPU time" if records_only else f"end it when it has used {fields[0]} ms of processor time"
        )
    if verb == "filter":
        extra["instructions0"] = str(len(fields[0]) // 16)
    return _WORDS[verb].format(*fields, **extra)


def lines(plan: Plan) -> list[str]:
    """Return the plan in words, one line for each step."""
    return [describe(step, plan) for step in (*plan.room, *plan.payload)]
