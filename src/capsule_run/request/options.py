"""Parse the command line from one table of options. `argparse` costs 8 ms, and its errors are less precise.

Pure. Options become fields of a request mapping, checked by the same checkers as JSON. Called by `cli`; `cli.help` prints the
table.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.model.request import COPY_ON_WRITE, DEFAULT_USER, DEFAULT_WORKING_DIRECTORY, READ_ONLY, UNLIMITED
from capsule_run.request import file_fields
from capsule_run.request.fast_path import HELP, RUN, VERSION, Options
from capsule_run.request.parse import (
    FIELDS,
    check_bind_mode,
    check_requirement,
    check_workspace_mode,
    nested,
    parse_request,
    request_from_mapping,
)
from capsule_run.request.sizes import parse_size
from capsule_run.request.validators import (
    check_directory,
    check_place,
    check_source,
    check_variable,
    invalid,
    nearest,
    quoted,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from capsule_run.model.request import Request

    # (word, option name) → value for the request mapping. Every checker of strings is a reader.
    Reader = Callable[[str, str], object]


class Option(Value):
    """One row of the table. `field` is the request field that the option sets, or else the field of `Options`.

    An option with a `metavar` takes a value, which `read` parses; one without stores `gives`. The values of an option that
    `repeats` are collected in a list.
    """

    long: str
    short: str
    metavar: str
    about: str
    field: str
    read: Reader | None = None
    gives: object = True
    repeats: bool = False


def _number(field: str, kind: type[int | float] = int) -> Reader:
    def read(word: str, label: str) -> object:
        digits = word.removeprefix("-").replace(".", "", kind is float)
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise invalid("E1005", label, f"must be a {'whole ' * (kind is int)}number, got {shown(word)}")
        return FIELDS[field](kind(word), label)

    return read


def _size(field: str) -> Reader:
    return lambda word, label: FIELDS[field](parse_size(word, label=label), label)


def _size_or_unlimited(field: str) -> Reader:
    read_size = _size(field)
    return lambda word, label: UNLIMITED if word == UNLIMITED else read_size(word, label)


def _variable(word: str, label: str) -> object:
    name, equals, text = word.partition("=")
    if not equals:
        # The word is not shown: it may be a secret.
        why, hint = "must be KEY=VALUE", 'your environment is not inherited; pass a value with `--env KEY="$KEY"`'
        raise invalid("E1005", label, why, hint=hint)
    return check_variable(name, text, label)


def _file(word: str, label: str) -> object:
    path, equals, source = word.partition("=")
    if not equals:
        raise invalid("E1005", label, f"must be PATH=SRC, got {shown(word)}")
    return path, {"source": check_source(source, label)}


def _text(word: str, _label: str) -> object:
    return word


def _bind(word: str, label: str) -> object:
    parts = word.split(":")
    if len(parts) not in (2, 3):
        why = f"must be SRC:DEST or SRC:DEST:MODE, got {shown(word)}"
        raise invalid("E1005", label, why, hint="a JSON request can name a path with a colon (`isolation.binds`)")
    mode, comma, force = (parts[2] if len(parts) == 3 else READ_ONLY).partition(",")
    if comma and force != "force":
        raise invalid("E1005", f"{label} mode", f"must be `ro`, `rw`, `ro,force` or `rw,force`, got {shown(parts[2])}")
    bind = {
        "source": check_source(parts[0], f"{label} source"),
        "destination": check_directory(parts[1], f"{label} destination"),
        "mode": check_bind_mode(mode, f"{label} mode"),
    }
    return {**bind, "force": True} if comma else bind


def _workspace(word: str, label: str) -> object:
    source, colon, rest = word.rpartition(":")
    mode, comma, hide = (rest if colon else COPY_ON_WRITE).partition(",")
    if comma and hide != "hide-path":
        raise invalid("E1005", f"{label} mode", f"must be a mode, or a mode and `,hide-path`, got {shown(rest)}")
    workspace = {
        "source": check_source(source if colon else word, label),
        "mode": check_workspace_mode(mode, f"{label} mode"),
    }
    return {**workspace, "hide_path": True} if comma else workspace


def _upper(word: str, label: str) -> object:
    return file_fields.read_workspace_upper(word, label)


def _line(
    names: str, metavar: str, about: str, field: str, read: Reader | None = None, *, gives: object = True
) -> Option:
    short, comma, long = names.rpartition(", ")
    return Option(
        long=long,
        short=short if comma else "",
        metavar=metavar,
        about=about,
        field=field,
        read=read,
        gives=gives,
        repeats=field in _REPEATING,
    )


def _resource(names: str, metavar: str, about: str, name: str, read: Callable[[str], Reader]) -> Option:
    return _line(names, metavar, about, f"resources.{name}", read(f"resources.{name}"))


_REPEATING = (
    "environment",
    "isolation.readonly_paths",
    "isolation.writable_paths",
    "isolation.binds",
    "isolation.tools",
    "isolation.unmask",
    "require",
    "files",
    "collect",
)

OPTIONS = (
    # The original options, in their order and wording.
    _line("--json", "", "Read JSON request from stdin", "json"),
    _line("-t, --timeout", "<MS>", "Command timeout in milliseconds", "timeout_ms", _number("timeout_ms")),
    _resource("-m, --memory", "<SIZE>", "Memory limit (e.g., 256M, 1G)", "memory_bytes", _size),
    _resource("--cpu", "<SHARES>", "CPU shares (relative weight)", "cpu_shares", _number),
    _resource("--max-output", "<SIZE>", "Maximum output size", "max_output_bytes", _size),
    _resource("--max-pids", "<NUM>", "Maximum number of processes", "max_pids", _number),
    _line("--network", "", "Enable network access", "isolation.network"),
    _line(
        "-w, --workdir",
        "<DIR>",
        f"Working directory [default: {DEFAULT_WORKING_DIRECTORY}]",
        "isolation.working_directory",
        check_directory,
    ),
    _line("-e, --env", "<KEY=VALUE>", "Environment variable", "environment", _variable),
    _line("--readonly", "<PATH>", "Read-only bind mount", "isolation.readonly_paths", check_place),
    _line("--writable", "<PATH>", "Writable bind mount", "isolation.writable_paths", check_place),
    _line("--bind", "<SRC:DEST[:MODE]>", "Bind mount with mode (ro/rw)", "isolation.binds", _bind),
    _line("--execution-id", "<UUID>", "Execution ID for tracking", "execution_id", FIELDS["execution_id"]),
    _line("--pretty", "", "Pretty print JSON output", "pretty"),
    _line("-v, --verbose", "", "Verbose output", "verbose"),
    _line("-h, --help", "", "Print help", "action", gives=HELP),
    _line("-V, --version", "", "Print version", "action", gives=VERSION),
    # Additional options.
    _line("--dry-run", "", "Print the steps of the run without running it", "dry_run"),
    _line(
        "--workspace",
        "<DIR[:MODE]>",
        "Directory shown at /workspace (cow/copy/ro/rw)",
        "isolation.workspace",
        _workspace,
    ),
    _line("--no-workspace", "", "Start with an empty /workspace", "isolation.workspace", gives=None),
    _line("--upper", "<DIR[:SIZE]>", "Store files written to /workspace on disk", "isolation.workspace_upper", _upper),
    _line("--tool", "<PATH|NAME>", "Share a tool from outside /usr, read-only", "isolation.tools", check_source),
    _line("--unmask", "<NAME>", "Do not mask this secret name, such as .env", "isolation.unmask", _text),
    _line(
        "--user",
        "<UID[:GID]>",
        f"User and group ID in the sandbox [default: {DEFAULT_USER}]",
        "isolation.user",
        FIELDS["isolation.user"],
    ),
    _line("--hostname", "<NAME>", "Host name in the sandbox", "isolation.hostname", FIELDS["isolation.hostname"]),
    _line(
        "--on-output-limit",
        "<MODE>",
        "At the output limit: kill or truncate",
        "on_output_limit",
        FIELDS["on_output_limit"],
    ),
    _line(
        "--profile",
        "<NAME|FILE>",
        "System call profile: strict, default or a file",
        "profile",
        FIELDS["profile"],
    ),
    _line(
        "--on-violation",
        "<ACTION>",
        "On a forbidden call: kill_attacks, kill or refuse",
        "on_violation",
        FIELDS["on_violation"],
    ),
    _resource("--disk", "<SIZE>", "Maximum size of all files written", "disk_bytes", _size),
    _resource("--stack", "<SIZE>", "Stack of each process, or `unlimited`", "stack_bytes", _size_or_unlimited),
    _resource("--max-file-size", "<SIZE>", "Maximum size of one file", "max_file_bytes", _size),
    _resource("--max-open-files", "<NUM>", "Maximum number of open files", "max_open_files", _number),
    _line(
        "--cpus",
        "<NUM>",
        "CPU quota in processors, such as 0.5",
        "resources.cpu_quota",
        _number("resources.cpu_quota", float),
    ),
    _resource("--cpu-time", "<MS>", "CPU time limit in milliseconds", "cpu_time_ms", _number),
    _resource("--io-read-bps", "<SIZE>", "Maximum bytes read from disks per second", "io_read_bps", _size),
    _resource("--io-write-bps", "<SIZE>", "Maximum bytes written to disks per second", "io_write_bps", _size),
    _resource("--io-read-iops", "<NUM>", "Maximum reads from disks per second", "io_read_iops", _number),
    _resource("--io-write-iops", "<NUM>", "Maximum writes to disks per second", "io_write_iops", _number),
    _line("--metrics-file", "<PATH>", "Add the run to this Prometheus metrics file", "metrics_file", check_source),
    _line("--audit-log", "<PATH>", "Append a record of the run to this file", "audit_log", check_source),
    _line("--audit-required", "", "Do not run if the audit log cannot be written", "audit_required"),
    _line("--ledger", "", "List every process in the result", "ledger"),
    _line("--no-postmortem", "", "Do not inspect the processes before a timeout kill", "postmortem", gives=False),
    _line("--file", "<PATH=SRC>", "Copy a file into the workspace", "files", _file),
    _line("--collect", "<GLOB>", "Return the workspace files that match", "collect", _text),
    _line("--collect-to", "<DIR>", "Write the collected files to this directory", "collect_to", check_source),
    _line(
        "--max-collect",
        "<SIZE>",
        "Maximum size of all collected files",
        "collect_bytes",
        _size("collect_bytes"),
    ),
    _line("--apply-changes", "", "Apply the changes to the shared directory", "apply_changes"),
    _line("--save-changes", "<DIR>", "Write new and changed files to this directory", "save_changes", check_source),
    _line("--require", "<NAME>", "Fail if the host lacks this mechanism", "require", check_requirement),
)
_BY_NAME = {name: option for option in OPTIONS for name in (option.long, option.short) if name}


def read_options(words: Sequence[str]) -> Options:
    """Parse the command line after the program's name. `-h` and `-V` win over what follows. Raises CapsuleError E10xx."""
    return _checked(parse_words(words))


def parse_words(words: Sequence[str]) -> Options:
    """Parse options like `read_options`, without checking what follows them: for subcommands."""
    stored: dict[str, object] = {}
    named: dict[str, str] = {}
    position = 0
    while position < len(words) and words[position].startswith("-") and words[position] != "-":
        word = words[position]
        position += 1
        if word == "--":
            break
        for option, inline in options_in(word):
            text = inline
            if option.metavar and text is None:
                if position == len(words):
                    raise CapsuleError("E1007", f"`{option.long}` needs a value: `{option.long} {option.metavar}`")
                text = words[position]
                position += 1
            _store(option, text, stored, named)
            if option.field == "action":
                return _options(stored, ())
    return _options(stored, tuple(words[position:]))


def options_in(word: str) -> Iterator[tuple[Option, str | None]]:
    """Yield the options in one word, each with its value if that is in the same word: `--opt=value`, `-t5`, `-vh`."""
    name, equals, text = word.partition("=")
    if word.startswith("--") or "-" + name in _BY_NAME:  # `-memory` is an error, not `-m emory`
        option = _BY_NAME.get(name)
        if option is None:
            raise _unknown(name)
        if equals and not option.metavar:
            raise CapsuleError("E1007", f"`{name}` takes no value")
        yield option, text if equals else None
        return
    for index, letter in enumerate(word[1:], 1):
        option = _BY_NAME.get("-" + letter)
        if option is None:
            raise _unknown("-" + letter)
        if option.metavar:
            yield option, word[index + 1 :] or None
            return
        yield option, None


def _unknown(name: str) -> CapsuleError:
    guess = nearest(name, [option.long for option in OPTIONS]) if len(name) > 2 else None
    shown_name = f"`{name}`" if name.isascii() and name.isprintable() else quoted(name)
    message = f"unknown option {shown_name}" + (f"; did you mean `{guess}`?" if guess else "")
    return CapsuleError("E1007", message, hint="see `capsule-run --help`; put the command's own options after `--`")


def _store(option: Option, text: str | None, stored: dict[str, object], named: dict[str, str]) -> None:
    gives = option.gives if option.read is None or text is None else option.read(text, option.long)
    before = named.setdefault(option.field, option.long)
    if before != option.long:
        raise CapsuleError("E1009", f"`{before}` and `{option.long}` cannot both be given")
    if option.repeats:
        earlier = stored.get(option.field, ())
        assert isinstance(earlier, tuple)
        stored[option.field] = (*earlier, gives)
    elif option.metavar and option.field in stored:
        raise CapsuleError("E1007", f"`{option.long}` is given twice", hint="keep one of the two")
    else:
        stored[option.field] = gives


def _options(stored: dict[str, object], command: tuple[str, ...]) -> Options:
    fields = {path: field for path, field in stored.items() if path in FIELDS}
    for field, option in (("environment", "--env"), ("files", "--file")):
        if field in fields:
            fields[field] = _object(fields[field], option)
    return Options(
        action=str(stored.get("action", RUN)),
        json="json" in stored,
        pretty="pretty" in stored,
        verbose="verbose" in stored,
        dry_run="dry_run" in stored,
        fields=nested(fields),
        command=command,
        metrics_file=str(stored.get("metrics_file", "")),
        audit_log=str(stored.get("audit_log", "")),
        audit_required="audit_required" in stored,
    )


def _object(pairs: object, option: str) -> dict[str, object]:
    assert isinstance(pairs, tuple)
    members: dict[str, object] = {}
    for name, member in pairs:
        if name in members:
            raise CapsuleError("E1007", f"`{option}` gives {quoted(name)} twice", hint="keep one of the two")
        members[name] = member
    return members


def _checked(options: Options) -> Options:
    if options.action != RUN:
        return options
    if options.json and options.command:
        raise CapsuleError(
            "E1009",
            f"`--json` reads the command from stdin, but the command line gives one: {shown(options.command[0])}",
            hint="remove `--json` or the command; `--pretty` prints a JSON result for a command",
        )
    if not options.json and not options.command:
        raise CapsuleError(
            "E1007", "no command is given", hint="use `capsule-run [OPTIONS] -- COMMAND`; see `capsule-run --help`"
        )
    return options


def build_request(options: Options) -> Request:
    """Return the request for a command line with a command. Raises CapsuleError E10xx."""
    return request_from_mapping({**options.fields, "command": options.command})


def build_json_request(options: Options, text: bytes) -> Request:
    """Return the request in a JSON text, with the options as defaults (`request.parse.with_defaults`)."""
    return parse_request(text, defaults=options.fields)
