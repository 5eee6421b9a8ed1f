"""The values of the pipeline, in order: `request`, `host`, `policy`, `plan`, `report`, `result`.

Start reading here. Values only: no decisions, no system calls, no imports but `_base`.
The names of `request` are public here: import them from `capsule_run.model`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsule_run.model.request import (
        COPY_ON_WRITE as COPY_ON_WRITE,
    )
    from capsule_run.model.request import (
        DEFAULT_COLLECT_BYTES as DEFAULT_COLLECT_BYTES,
    )
    from capsule_run.model.request import (
        DEFAULT_CPU_SHARES as DEFAULT_CPU_SHARES,
    )
    from capsule_run.model.request import (
        DEFAULT_MAX_OUTPUT_BYTES as DEFAULT_MAX_OUTPUT_BYTES,
    )
    from capsule_run.model.request import (
        DEFAULT_MAX_PIDS as DEFAULT_MAX_PIDS,
    )
    from capsule_run.model.request import (
        DEFAULT_MEMORY_BYTES as DEFAULT_MEMORY_BYTES,
    )
    from capsule_run.model.request import (
        DEFAULT_TIMEOUT_MS as DEFAULT_TIMEOUT_MS,
    )
    from capsule_run.model.request import (
        DEFAULT_WORKING_DIRECTORY as DEFAULT_WORKING_DIRECTORY,
    )
    from capsule_run.model.request import (
        KILL as KILL,
    )
    from capsule_run.model.request import (
        READ_ONLY as READ_ONLY,
    )
    from capsule_run.model.request import (
        READ_WRITE as READ_WRITE,
    )
    from capsule_run.model.request import (
        REFUSE as REFUSE,
    )
    from capsule_run.model.request import (
        TRUNCATE as TRUNCATE,
    )
    from capsule_run.model.request import (
        Bind as Bind,
    )
    from capsule_run.model.request import (
        InputFile as InputFile,
    )
    from capsule_run.model.request import (
        Isolation as Isolation,
    )
    from capsule_run.model.request import (
        Request as Request,
    )
    from capsule_run.model.request import (
        Resources as Resources,
    )
    from capsule_run.model.request import (
        Workspace as Workspace,
    )
    from capsule_run.model.request import (
        WorkspaceUpper as WorkspaceUpper,
    )

_HOMES = {  # the public names of requests
    "Bind": "request",
    "COPY_ON_WRITE": "request",
    "DEFAULT_COLLECT_BYTES": "request",
    "DEFAULT_CPU_SHARES": "request",
    "DEFAULT_MAX_OUTPUT_BYTES": "request",
    "DEFAULT_MAX_PIDS": "request",
    "DEFAULT_MEMORY_BYTES": "request",
    "DEFAULT_TIMEOUT_MS": "request",
    "DEFAULT_WORKING_DIRECTORY": "request",
    "InputFile": "request",
    "Isolation": "request",
    "KILL": "request",
    "READ_ONLY": "request",
    "READ_WRITE": "request",
    "REFUSE": "request",
    "Request": "request",
    "Resources": "request",
    "TRUNCATE": "request",
    "Workspace": "request",
    "WorkspaceUpper": "request",
}
_waiting = loaded_when_used(
    __name__,
    {
        "notebook": "a notebook shows a result",
        "report": "the command has ended",
        "result_reader": "a result is read back from JSON",
    },
)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        return _waiting(name)
    member: object = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
    globals()[name] = member
    return member


def __dir__() -> list[str]:
    return sorted(_HOMES)
