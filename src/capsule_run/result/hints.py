"""A hint from the last line of a failed command: the option that would have let it pass.

Mounts and namespaces refuse a read-only path, a missing path or a missing network, and the kernel reports that to nobody
outside. Only the command's own words are left, which prove nothing: they make a hint, never an entry of `denied`, and the
hint repeats none of them. The host is not consulted: a program must not learn from a message which paths the host has.

Imported only if a command exited with an error.
"""

from __future__ import annotations

from capsule_run._base.lexical_paths import HOME, WORKSPACE, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.policy import Policy

_READ_ONLY = ("Read-only file system", "os error 30", "[Errno 30]", "EROFS")
_ABSENT = ("No such file or directory", "no such file or directory", "[Errno 2]", "ENOENT")
_NO_NETWORK = (
    "Name or service not known",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "network is unreachable",
    "Could not resolve host",
    "ENETUNREACH",
    "EAI_AGAIN",
    "ENOTFOUND",
)
_OURS = (WORKSPACE, HOME, "/tmp", "/dev", "/proc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/var/tmp")
_AROUND_PATHS = dict.fromkeys(map(ord, "\"'`‘’“”<>()[],;:="), " ")


def hint(line: str, policy: Policy) -> str:
    """The option that would have let the command pass, judged by its last line, or an empty string."""
    if any(words in line for words in _READ_ONLY):
        return (
            f"only {WORKSPACE}, {HOME}, /tmp, /dev/shm and paths shared writable can be written to; "
            "`--writable PATH` (`isolation.writable_paths`) shares a host path for writing"
        )
    if not policy.network and any(words in line for words in _NO_NETWORK):
        return "the sandbox has no network; `--network` (`isolation.network`) shares the host's"
    if any(words in line for words in _ABSENT) and any(_is_outside(word, policy) for word in _words(line)):
        return (
            "the path is not visible in the sandbox; if it exists on the host, "
            "`--readonly PATH` (`isolation.readonly_paths`) shares it"
        )
    return ""


def _words(line: str) -> list[str]:
    return line.translate(_AROUND_PATHS).split()


def _is_outside(word: str, policy: Policy) -> bool:
    shown = (*_OURS, *(bound.destination for bound in policy.binds))
    return word.startswith("/") and len(word) > 1 and not any(within(word, place) for place in shown)
