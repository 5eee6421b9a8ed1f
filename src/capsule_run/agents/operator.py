"""What the operator of a model's tool allows: limits of every call, and the timeout of each."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import Value
from capsule_run.engine import variables as engine_variables
from capsule_run.host.path_resolution import variables
from capsule_run.model.request import DEFAULT_TIMEOUT_MS
from capsule_run.request.languages import language
from capsule_run.request.parse import request_from_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SHOWN_BYTES = 16 << 10


# The seed's: what `timeout_seconds` may be, whatever the operator says.
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS = 1, 300
LANGUAGES = ("python", "javascript", "bash")
# What is each call's own, and so nothing that an operator could say for all of them.
_PER_CALL = ("command", "stdin", "stdin_base64", "execution_id")


class Operator(Value):
    """What the operator allows; made by `operator`, which checks it.

    `limits` are request fields (docs/json-api.md) for every call. `shown_bytes` is how much of each stream a model reads.
    """

    limits: Mapping[str, object]
    timeout_ms: int
    max_timeout_ms: int
    languages: tuple[str, ...]
    shown_bytes: int

    def clamp(self, timeout_seconds: float | None) -> int:
        """The milliseconds of a call: what the model asked for, within 1–300 s and the operator's ceiling."""
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
) -> Operator:
    """Check and complete what an operator allows. Raises CapsuleError E10xx.

    :param limits: any request fields but the command and its input, such as `resources`, `isolation`, `timeout_ms`.
    :param max_timeout_ms: the most that a call may ask for; without it `timeout_ms` of the limits, else 300 s.
    :param languages: what a model may write; see docs/languages.md.
    """
    given = dict(limits or {})
    if variables():
        given = engine_variables.completed(given)
    for name in _PER_CALL:
        if name in given:
            raise CapsuleError("E1009", f"limits: `{name}` is each call's own", details={"field": name})
    request = request_from_mapping({"command": ["true"], **given})
    if max_timeout_ms is None:
        ceiling = request.timeout_ms or MAX_TIMEOUT_SECONDS * 1000
    else:
        checked = request_from_mapping({"command": ["true"], "timeout_ms": max_timeout_ms}).timeout_ms
        assert checked is not None
        ceiling = checked
    names = [language(name, "languages").name for name in languages]
    return Operator(
        limits=given,
        timeout_ms=min(request.timeout_ms or DEFAULT_TIMEOUT_MS, ceiling),
        max_timeout_ms=ceiling,
        languages=tuple(dict.fromkeys(names)),
        shown_bytes=shown_bytes,
    )
