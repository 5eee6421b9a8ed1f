"""The limits that an operator sets for every call of a tool, and the timeout of each call."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.engine import configuration
from capsule_run.engine import variables as engine_variables
from capsule_run.host.path_resolution import SYSTEM_FILE, is_absent, variables
from capsule_run.policy import limits as policy_limits
from capsule_run.request.languages import language
from capsule_run.request.parse import request_from_mapping, request_to_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SHOWN_BYTES = 16 << 10  # of each stream
# The bounds of `timeout_seconds` in the seed; the operator can only narrow them.
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS = 1, 300
LANGUAGES = ("python", "javascript", "bash")  # that a model can choose from by default
# Request fields that each call sets itself: an operator cannot set them for all calls.
_PER_CALL = ("command", "stdin", "stdin_base64", "execution_id")


class Operator(Value):
    """The operator's limits. Built and checked by `operator`."""

    limits: Mapping[str, object]  # request fields (docs/json-api.md) of every call
    timeout_ms: int  # of a call that asks for none
    max_timeout_ms: int  # of any call
    languages: tuple[str, ...]
    shown_bytes: int  # how much of each stream a model reads

    @property
    def max_timeout_seconds(self) -> int:
        """The largest `timeout_seconds` that a schema offers."""
        return min(max(self.max_timeout_ms // 1000, MIN_TIMEOUT_SECONDS), MAX_TIMEOUT_SECONDS)

    def clamp(self, timeout_seconds: float | None) -> int:
        """Return a call's timeout in milliseconds: the requested one, within 1–300 s and the operator's maximum."""
        if timeout_seconds is None:
            return self.timeout_ms
        asked = min(max(timeout_seconds, MIN_TIMEOUT_SECONDS), MAX_TIMEOUT_SECONDS)
        return min(int(asked * 1000), self.max_timeout_ms)


def operator(
    limits: Mapping[str, object] | None = None,
    *,
    max_timeout_ms: int | None = None,
    languages: Sequence[str] = LANGUAGES,
    shown_bytes: int = SHOWN_BYTES,
    config: bool = False,
) -> Operator:
    """Check an operator's limits and fill in the defaults. Raises CapsuleError E10xx.

    :param limits: any request fields except the command and its input, such as `resources`, `isolation`, `timeout_ms`.
    :param max_timeout_ms: the longest timeout that a call may request; by default `timeout_ms` of the limits, else 300 s.
    :param languages: the languages that a call may use; see docs/languages.md.
    :param shown_bytes: how many bytes of each stream a model reads.
    :param config: read the configuration files of the user and the project; the system's always holds.
    """
    given = dict(limits or {})
    if variables():
        given = engine_variables.completed(given)
    if config or "preset" in given:
        given = configuration.completed(given, own=config)
    for name in _PER_CALL:
        if name in given:
            raise CapsuleError("E1009", f"limits: `{name}` is each call's own", details={"field": name})
    request = request_from_mapping({"command": ["true"], **given})
    if has_system := not is_absent(SYSTEM_FILE):
        request = configuration.bounded(request)
        given = {name: field for name, field in request_to_mapping(request).items() if name != "command"}
    if max_timeout_ms is None:
        ceiling = request.timeout_ms or MAX_TIMEOUT_SECONDS * 1000
    else:
        checked = request_from_mapping({"command": ["true"], "timeout_ms": max_timeout_ms}).timeout_ms
        assert checked is not None
        ceiling = checked
    names = [language(name, "languages").name for name in languages]
    if has_system:
        ceiling = configuration.bounded_timeout(ceiling, is_given=max_timeout_ms is not None)
        names = configuration.bounded_languages(names, are_given=languages != LANGUAGES)
    return Operator(
        limits=given,
        timeout_ms=min(policy_limits.timeout_ms(request), ceiling),
        max_timeout_ms=ceiling,
        languages=tuple(dict.fromkeys(names)),
        shown_bytes=shown_bytes,
    )
