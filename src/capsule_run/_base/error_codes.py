"""The catalogue of error codes, the only one.

Rank 0: imports nothing but the values. A code, once published, keeps its meaning. `docs/errors.md` is
`catalogue_markdown()` written to a file, and a test compares the two.
"""

from __future__ import annotations

from capsule_run._base.statuses import CATEGORIES, ERROR, KILLED, TIMEOUT
from capsule_run._base.value import Value

# Whose fault it is: the request's (or its caller's), the host's, the program's that ran, or ours.
REQUEST, HOST, PROGRAM, OURS = "request", "host", "program", "ours"

# The class of a code decides the exit code of the command line, unless `_OWN_EXITS` says otherwise.
_CLASS_EXITS = {"E1": 2, "E2": 125, "E3": 126, "E4": 137, "E5": 137, "E6": 125}

# Instead of a number: the command's own exit code, or 128+N where signal N ended the command or the caller.
OWN = "own"
_OWN_EXITS: dict[str, int | str] = {
    "E3001": 127,
    "E3003": OWN,
    "E3004": 127,
    "E3005": OWN,
    "E3006": 124,
    "E3007": OWN,
}
_STATUSES = {"E3006": TIMEOUT, "E3007": KILLED, "E4": KILLED, "E5": KILLED}

# code: (cause, whose fault, meaning, hint). The hint is what to do when whoever raises knows nothing better;
# empty where there is nothing to do that the message does not say.
_ROWS: dict[str, tuple[str, str, str, str]] = {
    "E1001": ("malformed_json", REQUEST, "the request is not valid JSON", "send one JSON object, encoded as UTF-8"),
    "E1002": ("unknown_field", REQUEST, "a field that does not exist", ""),
    "E1003": ("wrong_type", REQUEST, "a field has the wrong type", ""),
    "E1004": ("out_of_range", REQUEST, "a number is outside its range", ""),
    "E1005": ("bad_value", REQUEST, "a value is empty, not one of the accepted ones, or wrongly written", ""),
    "E1006": ("missing_field", REQUEST, "a required field is missing", ""),
    "E1007": ("usage", REQUEST, "the command line is wrong", "see `capsule-run --help`"),
    "E1008": ("too_large", REQUEST, "the request, a path or the command is too large", ""),
    "E1009": ("contradiction", REQUEST, "two parts of the request contradict each other", "keep one of the two"),
    "E1010": (
        "language",
        REQUEST,
        "the sandbox has no toolchain for the language",
        "install one on the host",
    ),
    "E1011": (
        "syscall_profile",
        REQUEST,
        "a syscall profile is unknown, unreadable or wrongly written",
        "`capsule-run policy show` lists profiles and groups",
    ),
    "E2001": (
        "user_namespaces",
        HOST,
        "the host refuses user namespaces",
        (
            "let this account make user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, "
            "`user.max_user_namespaces` above 0; in a container, a seccomp profile that permits `unshare` and `mount`"
        ),
    ),
    "E2002": (
        "setup_step",
        HOST,
        "a step of building the sandbox failed",
        "`capsule-run --dry-run` prints the steps in words",
    ),
    "E2003": (
        "core_missing",
        OURS,
        "the core program is missing or cannot be executed",
        "install again, on a file system that is not mounted noexec",
    ),
    "E2004": (
        "bind_source",
        REQUEST,
        "a host path to show, read or write is missing, not accessible, or leads through a link",
        "name a path that exists and that the calling account may open",
    ),
    "E2005": ("kernel", HOST, "the kernel lacks a needed call", "Linux 5.10 or newer is needed"),
    "E2006": (
        "setup_timeout",
        HOST,
        "building the sandbox took too long",
        "the host is overloaded, or a path to show inside is on a file system that does not answer",
    ),
    "E2007": (
        "requirement",
        HOST,
        "the host lacks what the request requires",
        "run on a host that has it, or take the name out of `require` to accept the next best mechanism",
    ),
    "E2008": (
        "workspace",
        HOST,
        "the workspace directory cannot be shared in the asked mode",
        "ask for mode `ro` or `rw`, or no workspace",
    ),
    "E2009": (
        "ownership",
        HOST,
        "a path cannot be shared writable, because what is written there would belong to nobody",
        "run as the ordinary user who owns it",
    ),
    "E3001": (
        "not_found",
        REQUEST,
        "the command does not exist",
        "check the spelling, or give an absolute path as the sandbox sees it",
    ),
    "E3002": (
        "not_executable",
        REQUEST,
        "the command cannot be executed",
        "check its permissions and its `#!` line, or give its interpreter as the first word",
    ),
    "E3003": ("exit_code", PROGRAM, "the command ended with a non-zero exit code", ""),
    "E3004": (
        "not_visible",
        REQUEST,
        "the command exists on the host but is not visible inside",
        "show it with `--tool` (`isolation.tools`)",
    ),
    "E3005": ("signal", PROGRAM, "the command was ended by a signal of its own", ""),
    "E3006": (
        "timeout",
        PROGRAM,
        "the command ran longer than its time limit",
        "raise `--timeout` (`timeout_ms`), or give it less to do",
    ),
    "E3007": ("cancelled", REQUEST, "the caller cancelled the run, by a signal or by closing it", ""),
    "E3008": (
        "arguments_too_long",
        REQUEST,
        "the arguments and the environment are too long for the kernel",
        "one argument can hold 128 KiB; pass more through stdin or a file",
    ),
    "E3009": (
        "working_directory",
        REQUEST,
        "the working directory does not exist inside",
        "show it with `--bind`, or leave it out to start in the workspace",
    ),
    "E4001": ("memory", PROGRAM, "the memory limit was reached", "raise `--memory` (`resources.memory_bytes`)"),
    "E4002": ("processes", PROGRAM, "the process limit was reached", "raise `--max-pids` (`resources.max_pids`)"),
    "E4003": (
        "output",
        PROGRAM,
        "the output limit was reached",
        "raise `--max-output` (`resources.max_output_bytes`), or let it run on with `--on-output-limit truncate`",
    ),
    "E4004": (
        "cpu_time",
        PROGRAM,
        "the CPU time limit was reached",
        "raise `--cpu-time` (`resources.cpu_time_ms`), or give it less to compute",
    ),
    "E4005": ("disk", PROGRAM, "the disk limit was reached", "raise `--disk` (`resources.disk_bytes`)"),
    "E4006": (
        "files",
        PROGRAM,
        "the limit of file size or open files was reached",
        "raise `--max-file-size` (`resources.max_file_bytes`) or `--max-open-files` (`resources.max_open_files`)",
    ),
    "E5001": (
        "forbidden_syscall",
        PROGRAM,
        "the command made a system call that the sandbox forbids",
        "`details` names the call; `--on-violation refuse` (`on_violation`) lets the run go on, without the call",
    ),
    "E5002": (
        "cover_lifted",
        HOST,
        "what covered a path in a directory shared `rw` was lifted, since the host replaced, moved or removed the path",
        (
            "share the directory `ro` or copy-on-write, or leave the path alone during the run; "
            "what lies there may have been read, and be in the output"
        ),
    ),
    "E6001": (
        "protocol",
        OURS,
        "the core and Python do not understand each other",
        "this is our bug: please report it",
    ),
    "E6002": ("core_died", OURS, "the core ended before it reported", "if nobody killed it, please report it"),
    "E6003": (
        "host_exhausted",
        HOST,
        "the host is out of memory, descriptors or processes",
        "free some, or run fewer sandboxes at a time",
    ),
    "E6004": (
        "attestation",
        OURS,
        "what the kernel says was in force is not what had to be",
        "do not trust what the command did, and report it to us with `capsule-run doctor`'s output",
    ),
    "E6005": (
        "monitoring",
        HOST,
        "the audit log or the metrics file cannot be written",
        "make the file and its directory writable for this account",
    ),
    "E6006": (
        "streams",
        HOST,
        "a stream that the caller gave to the command cannot be written or read",
        "free space where the output goes, or give another stream; what the command did besides is in the result",
    ),
    "E6007": (
        "internal",
        OURS,
        "an error that nobody expected",
        "this is our bug: please report it, with what `CAPSULE_RUN_TRACEBACK=1` in the environment adds",
    ),
}

CODES = tuple(_ROWS)


class Entry(Value):
    """One line of the catalogue.

    `exit` is the command line's exit code, or `OWN`; `status` is the result's when this code ends a run.
    """

    code: str
    category: str
    cause: str
    fault: str
    meaning: str
    hint: str
    exit: int | str
    status: str


def entry(code: str) -> Entry:
    """The catalogue's line for a code; KeyError for a code that is not in it."""
    cause, fault, meaning, hint = _ROWS[code]
    category, exit_code = CATEGORIES[code[:2]], _CLASS_EXITS[code[:2]]
    return Entry(
        code=code,
        category=category,
        cause=cause,
        fault=fault,
        meaning=meaning,
        hint=hint,
        exit=_OWN_EXITS.get(code, exit_code),
        status=_STATUSES.get(code) or _STATUSES.get(code[:2], ERROR),
    )


_HEAD = """\
# Error codes

Generated from `src/capsule_run/_base/error_codes.py`; do not edit by hand.
A code, once published, keeps its meaning.
The fault says whose it is: the request's (or its caller's), the host's, the program's that ran, or ours.
The exit code is the command line's.
*own* is the command's own, or 128+N where signal N ended the command or the caller.
The hint is what to do when the place that failed knows nothing better."""


def catalogue_markdown() -> str:
    """The whole text of `docs/errors.md`."""
    parts = [_HEAD]
    for prefix, category in CATEGORIES.items():
        parts.append(f"\n## {prefix}xxx: {category}\n")
        parts.append("| Code | Cause | Meaning | Fault | Status | Exit code | Hint |\n|---|---|---|---|---|---|---|")
        for line in map(entry, CODES):
            if line.code.startswith(prefix):
                cells = (f"`{line.cause}`", line.meaning, line.fault, f"`{line.status}`", str(line.exit), line.hint)
                parts.append(f"| {line.code} | " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n"
