"""Parse the arguments of `capsule-run policy`, and load what they name."""

from __future__ import annotations

import posix

from capsule_run._base.errors import CapsuleError
from capsule_run.engine.profile_file import MAX_BYTES, load
from capsule_run.host.caller_files import read, reason_of
from capsule_run.request.option_table import FILE, Option
from capsule_run.request.validators import did_you_mean, shown
from capsule_run.seccomp.custom_profile import wrong
from capsule_run.seccomp.filters import SHIPPED_ARCHITECTURES, SHIPPED_PROFILES, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.model.optional import Recipe
    from capsule_run.seccomp.explain import Row

OPTIONS = (
    Option(
        long="--profile",
        metavar="<PROFILE>",
        about="test: the profile to check [default: default]; learn: where to start",
        choices=SHIPPED_PROFILES,
        takes=FILE,
    ),
    Option(
        long="--arch",
        metavar="<NAME>",
        about="x86_64 or aarch64 [default: this machine's]",
        choices=SHIPPED_ARCHITECTURES,
    ),
    Option(long="--network", about="The rules of a run with --network"),
    Option(long="--root", about="The rules of a run with --user 0"),
    Option(long="-o", metavar="<FILE>", about="learn: write the profile to this file", takes=FILE),
    Option(long="--json", about="Print JSON"),
    Option(long="--help", short="-h", about="Print help"),
)
FLAGS = tuple(name for option in OPTIONS if not option.metavar for name in (option.long, option.short) if name)
WITH_VALUE = tuple(option.long for option in OPTIONS if option.metavar)


class Words:
    """The parsed arguments: options anywhere, other words in order; after `--`, a command."""

    def __init__(self, words: Sequence[str]) -> None:
        self.flags: set[str] = set()
        self.given: dict[str, str] = {}
        self.plain: list[str] = []
        self.command: tuple[str, ...] = ()
        waiting = list(words)
        while waiting:
            word = waiting.pop(0)
            if word == "--":
                self.command = tuple(waiting)
                break
            if word in FLAGS:
                self.flags.add(word)
            elif word in WITH_VALUE:
                if not waiting:
                    raise usage(f"`{word}` needs a value")
                self.given[word] = waiting.pop(0)
            elif word.startswith("-"):
                raise usage(f"unknown option {shown(word)}{did_you_mean(word, (*FLAGS, *WITH_VALUE))}")
            else:
                self.plain.append(word)
        architecture = self.given.get("--arch", posix.uname().machine)
        if architecture not in SHIPPED_ARCHITECTURES:
            raise usage(f"`--arch` must be x86_64 or aarch64, not `{architecture}`")
        self.architecture = architecture

    def rows(self, profile: str) -> tuple[Row, ...]:
        """Return every call that the profile names, in the variant that the options select."""
        return explain(
            profile_of(profile),
            self.architecture,
            network="--network" in self.flags,
            root_inside="--root" in self.flags,
        )


def usage(message: str) -> CapsuleError:
    """Build the error of an invalid command line."""
    return CapsuleError("E1007", f"policy: {message}", hint="see `capsule-run policy --help`")


def profile_of(word: str) -> str | Recipe:
    """Load the profile that a word names; return the name of a shipped profile unchanged. Raises CapsuleError E1011."""
    return load(word) or word


def read_text(path: str) -> str:
    """Read a file of the user, for `test`. Raises CapsuleError E1011."""
    try:
        text = read(path, MAX_BYTES)
        if len(text) > MAX_BYTES:
            raise wrong(path, f"the file has more than {MAX_BYTES} bytes")
        return text.decode()
    except OSError as error:
        why, hint = reason_of(error)
        raise wrong(path, f"cannot read the file: {why}", hint=hint or "") from None
    except UnicodeDecodeError as error:
        raise wrong(path, f"cannot read the file: {error}") from None
