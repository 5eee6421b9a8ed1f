"""The values of a command line, and a fast path for `-- COMMAND`, which needs no table of options (`options`)."""

from __future__ import annotations

from capsule_run._base.value import Value
from capsule_run.model.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUN, HELP, SHORT_HELP, VERSION = "run", "help", "short help", "version"
QUIET = -1
# The values of `--color`.
AUTO, ALWAYS, NEVER = "auto", "always", "never"
DEFAULT_GRACE_MS = 2000  # between a signal that ends the run and the end, for the command to end itself
MAX_PLAIN = 1 << 12  # words, and characters in all: far below every limit of the validators
NOTHING: Mapping[str, object] = {}


class Options(Value):
    """A parsed command line. `fields` is a request mapping without the command; what was not given is absent."""

    command: tuple[str, ...]
    action: str = RUN
    json: bool = False
    pretty: bool = False
    verbosity: int = 0  # QUIET, or how often `-v` was given
    dry_run: bool = False
    fields: Mapping[str, object] = NOTHING
    metrics_file: str = ""
    audit_log: str = ""
    audit_required: bool = False
    color: str = AUTO
    env_files: tuple[str, ...] = ()
    separated: bool = False  # `--` stands before the command
    no_config: bool = False
    timeout_has_unit: bool = False  # `--timeout 500ms`, and not `--timeout 500`
    tty: bool = False
    interactive: bool = False
    grace_ms: int = DEFAULT_GRACE_MS

    @property
    def workspace_given(self) -> bool:
        """Whether the command line gives a workspace, or gives `--no-workspace`."""
        isolation = self.fields.get("isolation")
        return isinstance(isolation, dict) and "workspace" in isolation


def plain_request(words: Sequence[str]) -> Request | None:
    """Return the request for `-- COMMAND` if all words are certainly valid; else None."""
    if len(words) < 2 or words[0] != "--" or not words[1]:
        return None
    text = " ".join(words)
    if len(text) > MAX_PLAIN or not text.isascii() or "\0" in text:
        return None
    return Request(command=tuple(words[1:]))
