"""Tools that keep state: for each conversation of an agent one sandbox, whose variables, files and processes stay.

    conversations = Conversations(limits)
    answer = conversations.answer("thread-7", arguments)    # never raises for what a model sent
    answer.text, answer.result, answer.is_fault

Conversations share nothing. How many live at a time, and how long one lives without a call, is the operator's.
"""

from __future__ import annotations

import threading

from capsule_run._base.errors import CapsuleError
from capsule_run._base.strict_json import loads
from capsule_run._base.value import Value
from capsule_run.agents.arguments import check_arguments, requested_timeout_ms
from capsule_run.agents.cell_text import cell_text
from capsule_run.agents.operator import MAX_TIMEOUT_SECONDS
from capsule_run.agents.text import not_set_up_text, refusal_text
from capsule_run.contexts import program as programs
from capsule_run.policy import limits as policy_limits
from capsule_run.request.languages import language
from capsule_run.request.parse import request_from_mapping
from capsule_run.request.sizes import format_size
from capsule_run.request.validators import invalid
from capsule_run.sandbox.box import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from capsule_run.agents.operator import Operator
    from capsule_run.contexts.context import Context
    from capsule_run.model.cell import CellResult

MOST_CONVERSATIONS, IDLE_MS = 8, 600_000
_MOST_KNOWN = 10_000
LOST = (
    "note: the sandbox of this conversation has ended since its last call: variables and files are those of a new one"
)


class CellAnswer(Value):
    """The answer to a call of a tool that keeps state."""

    text: str  # what the model reads
    result: CellResult | None  # None if nothing ran
    is_fault: bool  # the call or the sandbox failed, not the program


class Stop:
    """The way to end a call from outside: a cell is interrupted, anything else ends soon by itself."""

    def __init__(self) -> None:
        self.wanted = False
        self._context: Context | None = None

    def cancel(self) -> None:
        """End the call."""
        self.wanted = True
        if self._context is not None:
            self._context.interrupt()

    def runs_in(self, context: Context) -> None:
        """Note where a cell begins. Raises CapsuleError E3007 if the call was cancelled before."""
        self._context = context
        if self.wanted:
            raise CapsuleError("E3007", "cancelled before it began")


def cell_languages(limits: Operator) -> list[str]:
    """Return the languages that keep state, as far as the operator allows them."""
    return [name for name in programs.LANGUAGES if name in limits.languages]


def cell_language(checked: Mapping[str, object], limits: Operator) -> str:
    """Return the language of a call with checked arguments. Raises CapsuleError E1005."""
    allowed = cell_languages(limits)
    name = language(checked.get("language", "python")).name
    if name not in allowed:
        names = " or ".join(f"`{each}`" for each in allowed) or "none, since the operator allows no such language"
        raise invalid("E1005", "language", f"must be {names}, got `{name}`")
    return name


def about_state(limits: Operator) -> str:
    """Describe the limits of a tool that keeps state to a model, generated so that they are never out of date."""
    request = request_from_mapping({"command": ["true"], **limits.limits})
    memory = format_size(policy_limits.limits(request.resources).memory_bytes)
    network = "with the host's network" if request.isolation.network else "without network"
    most = min(limits.max_timeout_ms / 1000, MAX_TIMEOUT_SECONDS)
    return (
        f"Languages: {', '.join(cell_languages(limits))}. Code runs like a cell of a notebook, in a sandbox {network}: "
        f"variables and files are kept for later calls of this conversation, and the value of the last expression comes "
        f"back. A call is interrupted after {limits.timeout_ms / 1000:g} s, or after `timeout_seconds` (at most {most:g}); "
        f"all calls together may use {memory} of memory."
    )


class _Conversation:
    """A sandbox, and how many calls are under way in it."""

    def __init__(self, box: Sandbox) -> None:
        self.box, self.calls = box, 0


class Conversations:
    """The sandboxes of an agent's conversations. A context manager; leaving it ends them, and so does collecting it.

    :param limits: the operator's, of each sandbox.
    :param most: how many live at a time; for one more, the one ends that was idle for longest.
    :param idle_timeout_ms: how long one lives without a call.
    """

    def __init__(
        self, limits: Operator, *, most: int = MOST_CONVERSATIONS, idle_timeout_ms: int | None = IDLE_MS
    ) -> None:
        if type(most) is not int or most < 1:
            raise CapsuleError("E1004", f"`most` must be a number above 0, not {most!r}")
        self._limits, self._most, self._idle_ms = limits, most, idle_timeout_ms
        self._living: dict[str, _Conversation] = {}  # the one that was used last is the last
        self._known: dict[str, None] = {}  # conversations whose sandbox may have ended
        self._lock = threading.Lock()

    def answer(self, conversation: str, arguments: object, *, stop: Stop | None = None) -> CellAnswer:
        """Run one call of a conversation. Never raises for what a model sent.

        :param arguments: `code`, `language`, `timeout_seconds`: a mapping, or JSON text of one.
        """
        try:
            given = loads(arguments) if isinstance(arguments, str) else arguments
            checked = check_arguments(given, ("code",), ("language", "timeout_seconds"))
            name = cell_language(checked, self._limits)
            found, was_lost = self._begin(conversation)
        except CapsuleError as error:
            is_refused = error.code.startswith("E1")
            return CellAnswer(text=(refusal_text if is_refused else not_set_up_text)(error), result=None, is_fault=True)
        try:
            context = found.box.own_context(name)
            (stop or Stop()).runs_in(context)
            result = context.run_code(str(checked["code"]), timeout_ms=requested_timeout_ms(checked, self._limits))
        except CapsuleError as error:
            return CellAnswer(text=refusal_text(error), result=None, is_fault=True)
        finally:
            with self._lock:
                found.calls -= 1
        text = cell_text(result, self._limits)
        return CellAnswer(text=f"{LOST}\n{text}" if was_lost else text, result=result, is_fault=False)

    async def answer_async(self, conversation: str, arguments: object) -> CellAnswer:
        """Run `answer` as a coroutine; cancelling it interrupts the code, and keeps the sandbox."""
        from capsule_run.aio.thread import in_thread  # noqa: PLC0415  # only where an event loop runs

        stop = Stop()
        return await in_thread(lambda: self.answer(conversation, arguments, stop=stop), cancel=stop.cancel)

    def _begin(self, conversation: str) -> tuple[_Conversation, bool]:
        """Return the sandbox of a conversation, which a call uses now, and whether it lost an earlier one."""
        with self._lock:
            found = self._living.pop(conversation, None)
            if found is not None and not found.box.info().is_alive:
                found.box.kill()
                found = None
            was_lost = found is None and conversation in self._known
            if found is None:
                self._make_room()
                request = request_from_mapping({"command": ["true"], **self._limits.limits})
                found = _Conversation(Sandbox(request=request, idle_timeout_ms=self._idle_ms))
            self._living[conversation] = found
            self._known[conversation] = None
            if len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            found.calls += 1
            return found, was_lost

    def _make_room(self) -> None:
        """End the sandboxes that were idle for longest until there may be one more. Raises CapsuleError E1004."""
        for name in [name for name, each in self._living.items() if not each.calls]:
            if len(self._living) < self._most and self._living[name].box.info().is_alive:
                break
            self._living.pop(name).box.kill()
        if len(self._living) >= self._most:
            message = f"code of {self._most} conversations runs, as many as may run at a time"
            raise CapsuleError("E1004", message, hint="call the tool again later")

    def end(self, conversation: str) -> None:
        """End the sandbox of a conversation, if it has one. Its next call begins anew, without a note."""
        with self._lock:
            self._known.pop(conversation, None)
            found = self._living.pop(conversation, None)
        if found is not None:
            found.box.kill()

    def close(self) -> None:
        """End all sandboxes."""
        with self._lock:
            self._known.clear()
            while self._living:
                self._living.popitem()[1].box.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
