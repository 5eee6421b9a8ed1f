"""Run one request. `execute` retries, `attempt` starts a launcher, `room` builds the sandbox and runs the payload in it,
`prepare` surveys and resolves, `build_result` makes the result.

Read first: `attempt`, then `room`, with docs/order-of-operations.md beside it.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "audit": "a ceiling requires an audit log",
        "build_result": "the command runs",
        "caller_environment": "options name variables of the caller, or a file of them",
        "code": "a program in a language is run",
        "configuration": "there is a configuration file, or a preset is named",
        "early_result": "a command ends before what it has started",
        "live_output": "the caller takes output while the command runs",
        "not_found": "the command did not start",
        "output_pipe": "output is handed on while the command runs",
        "plan_cache": "a process runs more than one command",
        "profile_file": "the request names a profile",
        "toml_file": "the request names a file with a profile, or there is a configuration file",
        "tracing": "the program uses OpenTelemetry",
        "variables": "the environment has variables of ours",
    },
)
