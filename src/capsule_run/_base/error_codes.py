"""The catalogue of error codes.

A published code keeps its meaning. `docs/errors.md` is
`catalogue_markdown()` written to a file, and a test compares the two.
"""

from __future__ import annotations

from capsule_run._base.statuses import CATEGORIES, ERROR, KILLED, TIMEOUT
from capsule_run._base.value import Value

# Whose fault it is: the request's (or its caller's), the host's, the program's that ran, or ours.
REQUEST, HOST, PROGRAM, OURS = "request", "host", "program", "ours"

# The class of a code determines the exit code of the command line, unless `_OWN_EXITS` has one.
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

# code: (cause, whose fault, meaning, hint). The hint is the default for errors raised without one; empty if the message
# already says what to do.
_ROWS: dict[str, tuple[str, str, str, str]] = {
    "E1001": ("malformed_json", REQUEST, "the request is not valid JSON", "send one JSON object, encoded as UTF-8"),
    "E1002": ("unknown_field", REQUEST, "the request has an unknown field", ""),
    "E1003": ("wrong_type", REQUEST, "a field has the wrong type", ""),
    "E1004": ("out_of_range", REQUEST, "a number is outside its range", ""),
    "E1005": ("bad_value", REQUEST, "a value is empty, malformed, or not one of the accepted values", ""),
    "E1006": ("missing_field", REQUEST, "a required field is missing", ""),
    "E1007": ("usage", REQUEST, "the command line is invalid", "see `capsule-run --help`"),
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
        "a syscall profile is unknown, unreadable or malformed",
        "`capsule-run policy show` lists profiles and groups",
    ),
    "E1012": (
        "ceiling",
        REQUEST,
        "the request passes a ceiling that the operator of this host has set",
        "ask for less; `capsule-run config show --origin` lists the ceilings, and only the operator can raise one",
    ),
    "E1013": (
        "configuration_file",
        REQUEST,
        "a configuration file is unreadable, malformed, or sets what it may not set",
        "`capsule-run config check` checks every file",
    ),
    "E2001": (
        "user_namespaces",
        HOST,
        "the host does not allow user namespaces",
        (
            "allow this account to create user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, "
            "`user.max_user_namespaces` above 0; in a container, a seccomp profile that permits `unshare` and `mount`"
        ),
    ),
    "E2002": (
        "setup_step",
        HOST,
        "a step of building the sandbox failed",
        "`capsule-run --dry-run -v` prints the steps",
    ),
    "E2003": (
        "core_missing",
        OURS,
        "the core program is missing or cannot be executed",
        "reinstall capsule-run on a file system that is not mounted `noexec`",
    ),
    "E2004": (
        "bind_source",
        REQUEST,
        "a host path to share, read or write is missing, not accessible, or contains a symbolic link",
        "use a path that exists and that the calling account can open",
    ),
    "E2005": ("kernel", HOST, "the kernel lacks a required system call", "Linux 5.10 or newer is required"),
    "E2006": (
        "setup_timeout",
        HOST,
        "building the sandbox took too long",
        "the host is overloaded, or a shared path is on a file system that does not respond",
    ),
    "E2007": (
        "requirement",
        HOST,
        "the host lacks what the request requires",
        "run on a host that has it, or remove the name from `require` to accept the next mechanism",
    ),
    "E2008": (
        "workspace",
        HOST,
        "the workspace directory cannot be shared in the requested mode",
        "request mode `ro` or `rw`, or no workspace",
    ),
    "E2009": (
        "ownership",
        HOST,
        "a path cannot be shared writable, because files written there would have no owner on the host",
        "run as the ordinary user that owns it",
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
    "E3003": ("exit_code", PROGRAM, "the command exited with a non-zero code", ""),
    "E3004": (
        "not_visible",
        REQUEST,
        "the command exists on the host but is not visible in the sandbox",
        "share it with `--tool` (`isolation.tools`)",
    ),
    "E3005": ("signal", PROGRAM, "the command was terminated by a signal that capsule-run did not send", ""),
    "E3006": (
        "timeout",
        PROGRAM,
        "the command ran longer than its time limit",
        "raise `--timeout` (`timeout_ms`), or reduce the work",
    ),
    "E3007": ("cancelled", REQUEST, "the caller cancelled the run, by a signal or by closing it", ""),
    "E3008": (
        "arguments_too_long",
        REQUEST,
        "the arguments and the environment are too long for the kernel",
        "one argument can have at most 128 KiB; pass larger data through stdin or a file",
    ),
    "E3009": (
        "working_directory",
        REQUEST,
        "the working directory does not exist in the sandbox",
        "share it with `--bind` (`isolation.binds`), or omit the option to start in the workspace",
    ),
    "E3010": (
        "sandbox_ended",
        REQUEST,
        "the sandbox that the call is for has ended",
        "make a new sandbox",
    ),
    "E4001": ("memory", PROGRAM, "the memory limit was reached", "raise `--memory` (`resources.memory_bytes`)"),
    "E4002": ("processes", PROGRAM, "the process limit was reached", "raise `--max-pids` (`resources.max_pids`)"),
    "E4003": (
        "output",
        PROGRAM,
        "the output limit was reached",
        (
            "raise `--max-output` (`resources.max_output_bytes`), or keep the command running with "
            "`--on-output-limit truncate` (`on_output_limit`)"
        ),
    ),
    "E4004": (
        "cpu_time",
        PROGRAM,
        "the CPU time limit was reached",
        "raise `--cpu-time` (`resources.cpu_time_ms`), or reduce the computation",
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
        "`details` names the call; except in `strict`, `--on-violation refuse` (`on_violation`) lets the run continue",
    ),
    "E5002": (
        "cover_lifted",
        HOST,
        "a mask in a directory shared `rw` was removed, because the host replaced, moved or removed the masked path",
        (
            "share the directory `ro` or copy-on-write, or do not change the path during the run; "
            "the command may have read its contents, and the output may contain them"
        ),
    ),
    "E6001": (
        "protocol",
        OURS,
        "protocol error between the core and Python",
        "this is a bug in capsule-run: please report it",
    ),
    "E6002": (
        "core_died",
        OURS,
        "the core exited before it sent its report",
        "if it was not killed by anyone, please report it",
    ),
    "E6003": (
        "host_exhausted",
        HOST,
        "the host is out of memory, descriptors or processes",
        "free some, or run fewer sandboxes at a time",
    ),
    "E6004": (
        "attestation",
        OURS,
        "the protections that the kernel reports are not the required ones",
        "do not trust the result; please report it with the output of `capsule-run doctor`",
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
        "a stream that the caller passed to the command cannot be read or written",
        "free space where the output is written, or pass another stream; the result has the rest of the run",
    ),
    "E6007": (
        "internal",
        OURS,
        "an unexpected internal error",
        "this is a bug in capsule-run: please report it with the traceback that `CAPSULE_RUN_TRACEBACK=1` prints",
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
`Fault` names the origin: `request` (or its caller), `host`, `program` (the command) or `ours` (a bug in capsule-run).
`Exit code` is the exit code of the command line.
`own` means the command's own exit code, or 128+N if signal N terminated the command or the caller.
`Hint` is the default; a more specific hint replaces it where the failing step knows one."""


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
