"""The hint of a failed command: the option that would have let it pass, judged by what the program wrote and the kernel counted.

Mounts and namespaces refuse a read-only path, a missing path or a missing network, and the kernel reports that to nobody
outside. Only the command's own words are left, which prove nothing: they make a hint, never an entry of `denied`. A hint
repeats none of them but a directory below `/etc` that cannot hold a secret, and the host is not consulted: a program must not
choose what a person shares or installs, nor learn from a message which paths the host has. No advice is better than a false
one: words that any program may print count only where they explain the end (`explaining_line`).

Every interface shows the same hint: `error.hint` (JSON, SDK), the command line, and `do:` of agents (`agents.text`). It names
the option, and in brackets the field; the most general remedy stands first.

Imported only after a command failed.
"""

from __future__ import annotations

from capsule_run._base.known_paths import ETC_SECRET_PARTS
from capsule_run._base.lexical_paths import WORKSPACE, within
from capsule_run.model.policy import PRIVATE
from capsule_run.model.request import COPY_ON_WRITE
from capsule_run.request.sizes import format_size
from capsule_run.result import explaining_line, failure_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from capsule_run.model.policy import Policy
    from capsule_run.model.report import FinishedRun

_LAST_LINES = 40  # in which words that only one program prints are looked for
_CAUSE_LINES = 60  # of the lines after the one that explains the end: its causes, as Java, Node and Cargo add them
_ABSENT = ("No such file", "no such file", "[Errno 2]", "ENOENT", "cannot open", "Cannot open", "(os error 2)")
_OURS = (WORKSPACE, "/tmp", "/dev", "/proc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/var/tmp")
_AROUND_PATHS = dict.fromkeys(map(ord, "\"'`‘’“”<>()[],;:="), " ")
# Exceptions for mistakes of the program's own: what tools said before them is not the cause.
_OWN_MISTAKES = (
    "AssertionError", "SyntaxError", "IndentationError", "NameError", "TypeError", "ValueError", "KeyError", "IndexError",
    "AttributeError", "ZeroDivisionError", "UnboundLocalError", "RecursionError", "NotImplementedError", "UnicodeDecodeError",
    "UnicodeEncodeError", "ReferenceError", "json.decoder.JSONDecodeError", "panic: runtime error",
)  # fmt: skip
_NOT_FOUND_EXIT = 127  # of shells, env(1), xargs(1), timeout(1) and others
_NO_COMMAND = (": not found", ": command not found", ": No such file or directory")

_NO_NETWORK = "the sandbox has no network; `--network` (`isolation.network`) shares the host's"
_COPIED_WORKSPACE = (
    "`--workspace DIR:copy` (`isolation.workspace.mode`) copies the shared directory instead of overlaying it"
)
_WRITABLE = (
    f"only {WORKSPACE}, /tmp, /dev/shm and paths shared writable can be written to; "
    "`--writable PATH` (`isolation.writable_paths`) shares a host path for writing"
)
_READABLE = (
    "the path is not visible in the sandbox; if it exists on the host, "
    "`--readonly PATH` (`isolation.readonly_paths`) shares it"
)
_SHARED_WORKSPACE = (
    "`--workspace DIR` (`isolation.workspace`) shares a directory as a private copy, and `--file PATH=SRC` (`files`) copies "
    "single files in"
)
_TOOL = (
    "the sandbox has no such command; `--tool NAME` (`isolation.tools`) shares one that the host has outside `/usr`, and any "
    "other has to be installed on the host"
)
_PYTHON_MODULE = (
    "the module is not installed for the sandbox's Python, which is the one that capsule-run runs on: install it there, or "
    "share a virtual environment that has it with `--tool DIR` (`isolation.tools`)"
)
_PACKAGE = (
    "the package is not installed where the sandbox sees it: install it on the host below `/usr` or in the shared workspace, "
    "or share its directory with `--readonly DIR` (`isolation.readonly_paths`)"
)


_INSTALL = {failure_words.PYTHON_MODULE: _PYTHON_MODULE, failure_words.PACKAGE: _PACKAGE}


def hint(line: str, policy: Policy) -> str:
    """The hint for a command that ended with this line, or an empty string."""
    return _words_hint([line], [line], policy, exit_code=1)


def of_run(finished: FinishedRun, stderr: bytes) -> str:
    """The hint for a command that failed by itself, or an empty string. `stderr`: all that is left of it."""
    lines = explaining_line.lines_of(stderr)
    number = explaining_line.cause_of(lines)
    cause = lines[number : number + _CAUSE_LINES] if number >= 0 else []
    reported = explaining_line.lines_of(finished.stdout) if finished.stdout else []
    found = _words_hint(cause, lines[-_LAST_LINES:], finished.policy, exit_code=finished.report.exited or 0)
    if not found and reported and not (cause and _is_own_mistake(cause[0])):
        tested = [line.removeprefix("E").strip() for line in reported if line.startswith("E   ")]  # pytest's reports
        found = _words_hint(tested[-1:], [] if tested else reported[-_LAST_LINES:], finished.policy, exit_code=0)
    return found


def of_timeout(finished: FinishedRun, stderr: bytes) -> str:
    """The hint for a command that timed out while it waited for a network that it does not have, or an empty string."""
    if finished.policy.network:
        return ""
    lines = explaining_line.lines_of(stderr)
    if _matching(lines[-_LAST_LINES:], lines) == failure_words.NETWORK or downloads(finished.policy.command):
        return _NO_NETWORK
    return _NO_NETWORK if _unanswered(finished.record.net_counters) else ""


def of_crowd(finished: FinishedRun) -> str:
    """The hint for a run that had as many processes and threads at once as are allowed, or an empty string."""
    tasks = finished.record.tasks
    if tasks is None or tasks.most < finished.policy.max_pids:
        return ""
    remedy = _remedy_in_words(failure_words.PROCESSES, finished.policy)
    return f"the command had as many processes and threads as are allowed; {remedy}"


def _words_hint(cause: list[str], last: list[str], policy: Policy, *, exit_code: int) -> str:
    if cause and _is_own_mistake(cause[0]):
        last = []
    remedy = _matching(cause, last)
    if remedy == failure_words.PROJECT_FILE:
        return _absent_hint(cause[0] if cause else "", policy)
    if remedy is not None:
        return _remedy_in_words(remedy, policy)
    if not cause:
        return ""
    if exit_code == _NOT_FOUND_EXIT and cause[0].endswith(_NO_COMMAND):
        name = cause[0].rpartition(": ")[0].rpartition(" ")[2]
        return _absent_hint(name, policy) if "/" in name else _TOOL
    if any(words in cause[0] for words in _ABSENT):
        if (
            any("in _execute_child" in line for line in last) and "/" not in cause[0]
        ):  # a frame of Python's `subprocess`
            return _TOOL
        return _absent_hint(cause[0], policy)
    return ""


def _is_own_mistake(line: str) -> bool:
    return line.startswith(_OWN_MISTAKES) and not line.startswith("TypeError: fetch failed")


def _matching(cause: Iterable[str], last: list[str]) -> str | None:
    """The remedy of the first row that matches; None if none does."""
    explaining = list(cause)
    for _program, fragments, scope, remedy in failure_words.ROWS:
        lines = explaining if scope == failure_words.CAUSE else [*explaining, *last]
        if any(matches(line, fragments) for line in lines):
            return remedy
    return None


def matches(line: str, fragments: tuple[str, ...]) -> bool:
    """Whether a line has these fragments, in their order. In time proportional to its length."""
    position = 0
    for index, fragment in enumerate(fragments):
        words = fragment
        if index == 0 and words.startswith("^"):
            words = words[1:]
            if not line.startswith(words):
                return False
        if index == len(fragments) - 1 and words.endswith("$"):
            words = words[:-1]
            return line.endswith(words) and len(line) - len(words) >= position
        position = line.find(words, position)
        if position < 0:
            return False
        position += len(words)
    return True


def _remedy_in_words(remedy: str, policy: Policy) -> str:
    if remedy == failure_words.NETWORK:
        return "" if policy.network else _NO_NETWORK
    if remedy == failure_words.MEMORY:
        return (
            f"an allocation failed; raise `--memory` (`resources.memory_bytes`), which is {format_size(policy.memory_bytes)}, "
            "and the runtime's own limit if it has one (`java -Xmx`, `node --max-old-space-size`)"
        )
    if remedy == failure_words.PROCESSES:
        return f"raise `--max-pids` (`resources.max_pids`), which is {policy.max_pids}, or start fewer at a time"
    if remedy == failure_words.OPEN_FILES:
        return f"raise `--max-open-files` (`resources.max_open_files`), which is {policy.max_open_files}"
    if remedy == failure_words.DISK:
        return (
            f"files in {WORKSPACE} and /tmp may take {format_size(policy.disk_bytes)} together; raise `--disk` "
            "(`resources.disk_bytes`) and `--memory` (`resources.memory_bytes`), since these files are memory"
        )
    if remedy in (failure_words.RENAME, failure_words.HARD_LINK):
        return _overlay_hint(policy, remedy)
    workspace = _workspace_hint(policy) if _is_empty(policy) else ""
    if remedy in _INSTALL:
        return f"{_INSTALL[remedy]}; {workspace}" if workspace else _INSTALL[remedy]
    return {
        failure_words.WRITABLE: _WRITABLE,
        failure_words.TOOL: _TOOL,
        failure_words.NOTHING: "",
    }[remedy]


def _overlay_hint(policy: Policy, remedy: str) -> str:
    """The hint for what fails in an overlay with a file or directory that was there before."""
    if policy.workspace_kind != COPY_ON_WRITE:
        return ""
    if remedy == failure_words.HARD_LINK:
        return (
            "in an overlay a hard link has another inode number than a source that was there before: use "
            f"`git clone --no-hardlinks`; {_COPIED_WORKSPACE}"
        )
    return f"in an overlay a directory that was there before cannot be renamed, only copied; {_COPIED_WORKSPACE}"


def _absent_hint(line: str, policy: Policy) -> str:
    """The hint for a path that does not exist inside."""
    words = line.translate(_AROUND_PATHS).split()
    outside = [word for word in words if _is_outside(word, policy)]
    package = next((name for name in map(_package_directory, outside) if name), "")
    if package:
        return (
            f"`{package}` is not visible in the sandbox; if the host has it, `--readonly {package}` "
            "(`isolation.readonly_paths`) shares it"
        )
    if outside:
        return _READABLE
    inside = [word for word in words if word.startswith("/") and len(word) > 1]
    if _is_empty(policy) and (not inside or any(within(word, WORKSPACE) for word in inside)):
        return _workspace_hint(policy)
    return ""


def _package_directory(path: str) -> str:
    """`/etc/NAME` of a path below /etc, if NAME is a usual name and may not hold a secret; else empty."""
    name = path.split("/")[2] if path.startswith("/etc/") else ""
    usual = name[:1].isalnum() and len(name) <= 40 and all(letter.isalnum() or letter in "._+-" for letter in name)
    if not (usual and name.isascii()) or any(part in name.lower() for part in ETC_SECRET_PARTS):
        return ""
    return f"/etc/{name}"


def _is_empty(policy: Policy) -> bool:
    """Whether no directory was shared as the workspace."""
    return policy.workspace_kind == PRIVATE


def _workspace_hint(policy: Policy) -> str:
    start = "the workspace has only the files of the request" if policy.transfer.files else "the workspace starts empty"
    return f"{start}; {_SHARED_WORKSPACE}"


def _is_outside(word: str, policy: Policy) -> bool:
    shown = (*_OURS, *(bound.destination for bound in policy.binds))
    return word.startswith("/") and len(word) > 1 and not any(within(word, place) for place in shown)


def downloads(command: tuple[str, ...]) -> bool:
    """Whether a command is a package manager or a client that downloads, also behind `python -m` and in `sh -c`."""
    words = list(command)
    if len(words) > 2 and words[0].rpartition("/")[2] in ("sh", "bash", "dash") and words[1] in ("-c", "-ec", "-lc"):
        words = words[2].split()
    if len(words) > 2 and words[0].rpartition("/")[2].startswith("python") and words[1] == "-m":
        words = words[2:]
    if not words:
        return False
    subcommands = failure_words.DOWNLOADS.get(words[0].rpartition("/")[2])
    if subcommands is None:
        return False
    plain = next((word for word in words[1:] if not word.startswith("-")), "")
    return not subcommands or plain in subcommands


def _unanswered(counters: str) -> bool:
    """Whether connections found no route, as those to the name server do (docs/decisions/name-lookup.md)."""
    rows = [line.split() for line in counters.splitlines()]
    found = {
        f"{names[0]}{name}": number
        for names, numbers in zip(rows[::2], rows[1::2], strict=False)
        if names[:1] == numbers[:1]
        for name, number in zip(names[1:], numbers[1:], strict=False)
    }
    return found.get("Ip:OutNoRoutes", "0") != "0"
