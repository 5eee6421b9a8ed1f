"""The table of options: what each is called, sets and accepts. Help, completion, man pages and variables are made of it.

Pure. Called by `options`, which parses a command line with it, and by whatever describes the options.
"""

from __future__ import annotations

from capsule_run._base.value import Value, replace
from capsule_run.model.request import DEFAULT_USER, DEFAULT_WORKING_DIRECTORY, KILL, KILL_ATTACKS, REFUSE, TRUNCATE
from capsule_run.request import option_readers as read
from capsule_run.request.fast_path import ALWAYS, AUTO, HELP, NEVER, QUIET, VERSION
from capsule_run.request.parse import FIELDS, REQUIREMENTS, check_requirement
from capsule_run.request.validators import check_directory, check_place, check_source, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run.request.option_readers import Reader

# The groups of the help text, in its order.
LIMITS, FILES, NETWORK, ENVIRONMENT = "limits", "files", "network", "environment"
TERMINAL = "terminal"
SECURITY, OUTPUT, MONITORING = "security", "output", "monitoring"
GROUPS = (LIMITS, FILES, NETWORK, ENVIRONMENT, TERMINAL, SECURITY, OUTPUT, MONITORING)
# What the value of an option names, for completion.
FILE, DIRECTORY = "file", "directory"


class Option(Value):
    """One row of the table. `field` is the request field that the option sets, or else a field of `Options`.

    An option with a `metavar` takes a value, which `read` parses; one without stores `gives`. The values of an option that
    `repeats` are collected in a list; of any other option, the last one counts.
    """

    long: str
    short: str = ""
    metavar: str = ""
    about: str
    field: str = ""
    read: Reader | None = None
    gives: object = True
    repeats: bool = False
    group: str = ""
    choices: tuple[str, ...] = ()
    """Words that the value can be; other words may be accepted too, such as the path of a profile."""
    takes: str = ""
    """What the value names: FILE, DIRECTORY, or nothing that a shell can complete."""


def _flag(names: str, about: str, field: str, *, gives: object = True) -> Option:
    short, _comma, long = names.rpartition(", ")
    return Option(long=long, short=short, about=about, field=field, gives=gives)


def _value(
    names: str,
    metavar: str,
    about: str,
    field: str,
    reader: Reader | None = None,
    *,
    choices: tuple[str, ...] = (),
    takes: str = "",
) -> Option:
    short, _comma, long = names.rpartition(", ")
    return Option(
        long=long,
        short=short,
        metavar=metavar,
        about=about,
        field=field,
        read=reader or FIELDS[field],
        repeats=field in REPEATING,
        choices=choices,
        takes=takes,
    )


def _limit(names: str, metavar: str, about: str, name: str, reader_of: Callable[[str], Reader]) -> Option:
    return _value(names, metavar, about, f"resources.{name}", reader_of(f"resources.{name}"))


def _group(name: str, *options: Option) -> tuple[Option, ...]:
    return tuple([replace(option, group=name) for option in options])


REPEATING = (
    "environment",
    "isolation.readonly_paths",
    "isolation.writable_paths",
    "isolation.binds",
    "isolation.tools",
    "isolation.unmask",
    "require",
    "files",
    "collect",
    "env_files",
)

OPTIONS = (
    *_group(
        LIMITS,
        _value("-t, --timeout", "<MS>", "Command timeout in milliseconds", "timeout_ms", read.duration("timeout_ms")),
        _limit("-m, --memory", "<SIZE>", "Memory limit (e.g., 256M, 1G)", "memory_bytes", read.size),
        _limit("--cpu", "<SHARES>", "CPU shares (relative weight)", "cpu_shares", read.cpu_shares),
        _limit("--cpus", "<NUM>", "CPU quota in processors, such as 0.5", "cpu_quota", read.decimal_number),
        _limit("--cpu-time", "<MS>", "CPU time limit in milliseconds", "cpu_time_ms", read.duration),
        _limit("--max-output", "<SIZE>", "Maximum output size", "max_output_bytes", read.size),
        _value(
            "--on-output-limit",
            "<MODE>",
            "At the output limit: kill or truncate",
            "on_output_limit",
            choices=(KILL, TRUNCATE),
        ),
        _limit("--max-pids", "<NUM>", "Maximum number of processes", "max_pids", read.whole_number),
        _limit("--max-open-files", "<NUM>", "Maximum number of open files", "max_open_files", read.whole_number),
        _limit("--disk", "<SIZE>", "Maximum size of all files written", "disk_bytes", read.size),
        _limit("--max-file-size", "<SIZE>", "Maximum size of one file", "max_file_bytes", read.size),
        _limit("--stack", "<SIZE>", "Stack of each process, or `unlimited`", "stack_bytes", read.size_or_unlimited),
        _limit("--io-read-bps", "<SIZE>", "Maximum bytes read from disks per second", "io_read_bps", read.size),
        _limit("--io-write-bps", "<SIZE>", "Maximum bytes written to disks per second", "io_write_bps", read.size),
        _limit("--io-read-iops", "<NUM>", "Maximum reads from disks per second", "io_read_iops", read.whole_number),
        _limit("--io-write-iops", "<NUM>", "Maximum writes to disks per second", "io_write_iops", read.whole_number),
    ),
    *_group(
        FILES,
        _value(
            "-w, --workdir",
            "<DIR>",
            f"Working directory [default: {DEFAULT_WORKING_DIRECTORY}]",
            "isolation.working_directory",
            check_directory,
        ),
        _value(
            "--workspace",
            "<DIR[:MODE]>",
            "Directory shown at /workspace (cow/copy/ro/rw)",
            "isolation.workspace",
            read.workspace,
            takes=DIRECTORY,
        ),
        _flag("--no-workspace", "Start with an empty /workspace", "isolation.workspace", gives=None),
        _value("--readonly", "<PATH>", "Read-only bind mount", "isolation.readonly_paths", check_place, takes=FILE),
        _value("--writable", "<PATH>", "Writable bind mount", "isolation.writable_paths", check_place, takes=FILE),
        _value(
            "--bind",
            "<SRC:DEST[:MODE]>",
            "Bind mount with mode (ro/rw)",
            "isolation.binds",
            read.bind,
            takes=FILE,
        ),
        _value(
            "--tool",
            "<PATH|NAME>",
            "Share a tool from outside /usr, read-only",
            "isolation.tools",
            check_source,
            takes=FILE,
        ),
        _value("--unmask", "<NAME>", "Do not mask this secret name, such as .env", "isolation.unmask", read.text),
        _value("--file", "<PATH=SRC>", "Copy a file into the workspace", "files", read.file),
        _value("--collect", "<GLOB>", "Return the workspace files that match", "collect", read.text),
        _value(
            "--collect-to",
            "<DIR>",
            "Write the collected files to this directory",
            "collect_to",
            takes=DIRECTORY,
        ),
        _value(
            "--max-collect",
            "<SIZE>",
            "Maximum size of all collected files",
            "collect_bytes",
            read.size("collect_bytes"),
        ),
        _flag("--apply-changes", "Apply the changes to the shared directory", "apply_changes"),
        _value(
            "--save-changes",
            "<DIR>",
            "Write new and changed files to this directory",
            "save_changes",
            takes=DIRECTORY,
        ),
        _value(
            "--upper",
            "<DIR[:SIZE]>",
            "Store files written to /workspace on disk",
            "isolation.workspace_upper",
            read.upper,
            takes=DIRECTORY,
        ),
    ),
    *_group(
        NETWORK,
        _flag("--network", "Enable network access", "isolation.network"),
        _value("--hostname", "<NAME>", "Host name in the sandbox", "isolation.hostname"),
    ),
    *_group(
        ENVIRONMENT,
        _value("-e, --env", "<KEY=VALUE>", "Environment variable", "environment", read.variable),
        _value(
            "--env-file",
            "<FILE>",
            "Environment variables from a file, one in a line",
            "env_files",
            check_source,
            takes=FILE,
        ),
        _value(
            "--user",
            "<UID[:GID]>",
            f"User and group ID in the sandbox [default: {DEFAULT_USER}]",
            "isolation.user",
        ),
    ),
    *_group(
        TERMINAL,
        _flag("--tty", "Give the command a terminal; -it for short", "tty"),
        _flag("-i, --interactive", "Pass stdin on as it is; without -t give no terminal", "interactive"),
        _value("--grace", "<MS>", "Time to end after a signal [default: 2s]", "grace_ms", read.grace),
    ),
    *_group(
        SECURITY,
        _value(
            "--profile",
            "<NAME|FILE>",
            "System call profile: strict, default or a file",
            "profile",
            choices=("strict", "default"),
            takes=FILE,
        ),
        _value(
            "--on-violation",
            "<ACTION>",
            "On a forbidden call: kill_attacks, kill or refuse",
            "on_violation",
            choices=(KILL_ATTACKS, KILL, REFUSE),
        ),
        _value(
            "--require",
            "<NAME>",
            "Fail if the host lacks this mechanism",
            "require",
            check_requirement,
            choices=REQUIREMENTS,
        ),
        _value(
            "--preset",
            "<NAME>",
            "Options under a name: agent, judge, build, ...",
            "preset",
            choices=("agent", "judge", "build", "data-science", "strict"),
        ),
        _flag("--no-config", "Read no configuration file but the system's", "no_config"),
    ),
    *_group(
        OUTPUT,
        _flag("--json", "Read JSON request from stdin", "json"),
        _flag("--pretty", "Pretty print JSON output", "pretty"),
        _flag("--diff", "Print a unified diff of what the command changed in /workspace", "diff"),
        _flag("-v, --verbose", "Verbose output", "verbosity", gives=1),
        _flag("-q, --quiet", "Print no notices and hints, only errors", "verbosity", gives=QUIET),
        _value(
            "--color",
            "<WHEN>",
            "Colour our messages: auto, always or never",
            "color",
            choice(AUTO, ALWAYS, NEVER),
            choices=(AUTO, ALWAYS, NEVER),
        ),
        _flag("--dry-run", "Print what the command would see and its limits; run nothing", "dry_run"),
        _flag("-h, --help", "Print help", "action", gives=HELP),
        _flag("-V, --version", "Print version", "action", gives=VERSION),
    ),
    *_group(
        MONITORING,
        _value("--execution-id", "<UUID>", "Execution ID for tracking", "execution_id"),
        _flag("--ledger", "List every process in the result", "ledger"),
        _flag("--no-postmortem", "Do not inspect the processes before a timeout kill", "postmortem", gives=False),
        _value(
            "--metrics-file",
            "<PATH>",
            "Add the run to this Prometheus metrics file",
            "metrics_file",
            check_source,
            takes=FILE,
        ),
        _value(
            "--audit-log", "<PATH>", "Append a record of the run to this file", "audit_log", check_source, takes=FILE
        ),
        _flag("--audit-required", "Do not run if the audit log cannot be written", "audit_required"),
    ),
)
# Before a number `-t` is `--timeout`, else this one (`options.options_in`).
TTY = "--tty"
BY_NAME = {name: option for option in OPTIONS for name in (option.long, option.short) if name}
