"""Paths by their text alone, and the directories that make up the sandbox's own tree."""

from __future__ import annotations

WORKSPACE = "/workspace"


SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
SHIM_DIRECTORY = "/run/capsule/bin"
SHIMMED = ("python", "python3")
# Directories that are the sandbox's own: nothing of the host may be put over them.
SYSTEM_DIRECTORIES = (
    "/",
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
)
# Beneath these, too: they are read-only trees of the host, or the kernel's own.
SYSTEM_TREES = ("/bin", "/dev", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run/capsule", "/sbin", "/sys", "/usr")
# And over these nothing, however much it is asked for: without them the wall has a gap.
HELD_TREES = ("/dev", "/proc", "/run/capsule")
# Writable, private and empty in every sandbox: asking for one of them asks for what is there already.
PRIVATE_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm", WORKSPACE)
# Each with the place on our own tmpfs that shows there, and its mode.
SCRATCH_PLACES = (("/tmp", "/tmp", "1777"), ("/dev/shm", "/shm", "1777"))
VAR_TMP = ("/var/tmp", "/var-tmp", "1777")


def within(path: str, tree: str) -> bool:
    """Whether `path` is `tree` or lies beneath it (by whole components: /homestead is not within /home)."""
    return path == tree or path.startswith(tree if tree.endswith("/") else tree + "/")


def normal(path: str) -> str:
    """The absolute path without empty, `.` and `..` components, by its text alone."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def shown_already(path: str) -> bool:
    """Whether a read-only path is part of every sandbox: /usr and what /bin and its like lead to."""
    return any(within(path, tree) for tree in SYSTEM_TREES if tree not in ("/dev", "/proc", "/sys", "/run/capsule"))


def is_home(path: str, home: str) -> bool:
    """Whether a directory is somebody's home: the caller's as its environment says, or by its place, in case that lies."""
    return path in (home, "/root") or (path.startswith("/home/") and path.count("/") == 2)


def trees_of(prefix: str, home: str) -> tuple[str, ...]:
    """The trees of an installation at `prefix`: itself, or its own folders where it shares its place with other things."""
    if is_home(prefix.removesuffix("/.local"), home):
        return (f"{prefix}/bin", f"{prefix}/lib")
    return (prefix,)
