"""The values of the pipeline, in order: `request`, `host`, `policy`, `plan`, `report`, `result`.

Start reading here. Values only: no decisions, no system calls, no imports but `_base`.
The names of `request` are public here: import them from `capsule_run.model`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import (
        COPY_ON_WRITE,
        DEFAULT_COLLECT_BYTES,
        DEFAULT_CPU_SHARES,
        DEFAULT_MAX_OUTPUT_BYTES,
        DEFAULT_MAX_PIDS,
        DEFAULT_MEMORY_BYTES,
        DEFAULT_TIMEOUT_MS,
        DEFAULT_WORKING_DIRECTORY,
        KILL,
        KILL_ATTACKS,
        READ_ONLY,
        READ_WRITE,
        REFUSE,
        TRUNCATE,
        Bind,
        InputFile,
        Isolation,
        Request,
        Resources,
        Workspace,
        WorkspaceUpper,
    )

__all__ = [
    "COPY_ON_WRITE",
    "DEFAULT_COLLECT_BYTES",
    "DEFAULT_CPU_SHARES",
    "DEFAULT_MAX_OUTPUT_BYTES",
    "DEFAULT_MAX_PIDS",
    "DEFAULT_MEMORY_BYTES",
    "DEFAULT_TIMEOUT_MS",
    "DEFAULT_WORKING_DIRECTORY",
    "KILL",
    "KILL_ATTACKS",
    "READ_ONLY",
    "READ_WRITE",
    "REFUSE",
    "TRUNCATE",
    "Bind",
    "InputFile",
    "Isolation",
    "Request",
    "Resources",
    "Workspace",
    "WorkspaceUpper",
]

__getattr__ = loaded_when_used(
    __name__,
    {
        "notebook": "a notebook shows a result",
        "optional": "the request has what only some requests have",
        "report": "the command has ended",
        "report_details": "the report or the record has what only some runs have",
        "result_parts": "a result has streams, files or measurements",
        "result_reader": "a result is read back from JSON",
    },
    public=dict.fromkeys(__all__, "request"),
)


def __dir__() -> list[str]:
    return list(__all__)
