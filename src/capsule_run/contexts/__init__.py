"""Contexts: interpreters in a sandbox that keep their state from cell to cell (docs/contexts.md).

`protocol` encodes and decodes, `conversation` decides, `context` and `aio_context` read and write, `program` has the texts of
`inside/`, which run in the sandbox. Read first: `conversation`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.contexts.aio_context import AsyncContext
    from capsule_run.contexts.context import Context
    from capsule_run.contexts.program import command

__all__ = ["AsyncContext", "Context", "command"]

__getattr__ = loaded_when_used(
    __name__,
    {
        "aio_context": "a context is used from asyncio",
        "context": "a context is used",
        "conversation": "a context is used",
        "program": "an interpreter starts",
        "protocol": "a context is used",
    },
    public={"AsyncContext": "aio_context", "Context": "context", "command": "program"},
)
