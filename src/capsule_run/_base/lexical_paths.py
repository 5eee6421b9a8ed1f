"""Path arithmetic without the file system, and the directories of the sandbox's own tree."""

from __future__ import annotations

WORKSPACE = "/workspace"
HOME = "/home/user"  # not the workspace: what programs keep there is no part of the project


SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
SHIM_DIRECTORY = "/run/capsule/bin"
SHIMMED = ("python", "python3")
# Directories of the sandbox itself: no host path may be shown there, unless forced.
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
# Trees of which the same holds for every path beneath: read-only trees of the host, or the kernel's.
SYSTEM_TREES = ("/bin", "/dev", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run/capsule", "/sbin", "/sys", "/usr")
# Trees that can never be replaced, even if forced: the sandbox relies on them.
FIXED_TREES = ("/dev", "/proc", "/run/capsule")
# Writable, private and empty in every sandbox; a request for one of them changes nothing.
PRIVATE_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm", WORKSPACE)
# Each with its directory on the tmpfs, and its mode.
SCRATCH_PLACES = (("/tmp", "/tmp", "1777"), ("/dev/shm", "/shm", "1777"), (HOME, "/home", "0700"))
VAR_TMP = ("/var/tmp", "/var-tmp", "1777")


def within(path: str, tree: str) -> bool:
    """Return whether `path` is `tree` or lies beneath it (by whole components: /homestead is not within /home)."""
    return path == tree or path.startswith(tree if tree.endswith("/") else tree + "/")


def normal(path: str) -> str:
    """Return the absolute path without empty, `.` and `..` components."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def shown_already(path: str) -> bool:
    """Return whether every sandbox shows this path read-only: /usr, and what /bin, /lib and so on lead to."""
    return any(within(path, tree) for tree in SYSTEM_TREES if tree not in ("/dev", "/proc", "/sys", "/run/capsule"))


def is_home(path: str, home: str) -> bool:
    """Return whether a directory is a home directory: the caller's `home`, /root, or one in /home."""
    return path in (home, "/root") or (path.startswith("/home/") and path.count("/") == 2)


def trees_of(prefix: str, home: str) -> tuple[str, ...]:
    """Return the trees of an installation at `prefix`: the prefix itself, or only `bin` and `lib` if it is a home directory."""
    if is_home(prefix.removesuffix("/.local"), home):
        return (f"{prefix}/bin", f"{prefix}/lib")
    return (prefix,)
