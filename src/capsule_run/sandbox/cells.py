"""The contexts of one sandbox: interpreters that keep their state from cell to cell (docs/contexts.md)."""

from __future__ import annotations

import threading

from capsule_run._base.value import replace
from capsule_run.contexts import program as programs
from capsule_run.contexts.context import Context
from capsule_run.contexts.interpreter import DEFAULT_GRACE_MS
from capsule_run.engine import code as engine_code
from capsule_run.policy.limits import limits
from capsule_run.request.languages import language as language_row
from capsule_run.sandbox.calls import request_of_call, without_limits
from capsule_run.sandbox.piped import PipedProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from os import PathLike

    from capsule_run.engine.session import Session
    from capsule_run.model.request import Request


def interpreter_request(
    of_sandbox: Request, language: object, *, cwd: str | PathLike[str] | None, memory: int | str | None
) -> tuple[str, Request]:
    """Return the language of a context by its name, and the request of its interpreter's process. May run a probe.

    Raises CapsuleError E10xx; E1010 if the sandbox lacks the interpreter.
    """
    name = _check_language(language, of_sandbox)
    memory = _default_memory(of_sandbox) if memory is None else memory
    return name, without_limits(request_of_call(of_sandbox, programs.command(name), workdir=cwd, memory=memory))


def _check_language(language: object, request: Request) -> str:
    """Return the name of a language that has contexts, and whose interpreter the sandbox of `request` has."""
    name = programs.language_of(language)
    row = language_row(name)
    for program in programs.PROGRAMS[name]:
        only = tuple(tools for tools in row.toolchains if tools.programs == (program,))
        engine_code.check_toolchain(replace(row, toolchains=only), request)
    return name


def _default_memory(request: Request) -> int:
    """Return the memory limit of an interpreter: less than the sandbox's, so that a cell that uses it up ends no files."""
    whole = limits(request.resources).memory_bytes
    return whole - whole // 8


class Contexts:
    """The contexts that a sandbox made, among them its own of each language. Refers to the session, not to the sandbox."""

    def __init__(self, session: Session, in_use: Callable[[], AbstractContextManager[object]]) -> None:
        self._session, self._in_use = session, in_use
        self._made: list[Context] = []
        self._own: dict[str, Context] = {}
        self._lock = threading.Lock()

    def make(
        self,
        language: object = "python",
        *,
        cwd: str | PathLike[str] | None = None,
        memory: int | str | None = None,
        grace_ms: int = DEFAULT_GRACE_MS,
    ) -> Context:
        """Make a context; its interpreter starts with the first cell. Raises CapsuleError E10xx."""
        session = self._session
        name, request = interpreter_request(session.request, language, cwd=cwd, memory=memory)
        made = Context(lambda: PipedProcess(session, request), language=name, grace_ms=grace_ms, in_use=self._in_use)
        with self._lock:
            self._made.append(made)
        return made

    def own(self, language: object) -> Context:
        """Return the sandbox's own context of a language."""
        name = programs.language_of(language)
        with self._lock:
            found = self._own.get(name)
        if found is None:
            made = self.make(name)
            with self._lock:
                found = self._own.setdefault(name, made)
        return found

    def close(self) -> None:
        """Close every context."""
        with self._lock:
            made, self._made = self._made, []
        for one in made:
            one.close()
