"""The MCP server: JSON-RPC messages, a session, its tools, results and resources.

Read first: `session`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "session": "the server starts",
    },
)
