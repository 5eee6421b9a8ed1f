"""The result of a run.

Units are in the names. `Result.to_dict()` is the JSON API's response (docs/json-api.md), and `Result.from_dict()` reads it.
"""

from __future__ import annotations

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError, Failure
from capsule_run._base.statuses import SUCCESS
from capsule_run._base.value import Value
from capsule_run.model import notebook, result_parts, result_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from capsule_run._base.statuses import Status
    from capsule_run.model.changes import Change, NotApplied
    from capsule_run.model.result_parts import CollectedFile, Metrics, NotCollected, Output, OutputPiece


_SHOWN_CHARACTERS = 60  # of standard output in a `repr`


class Result(Value):
    """The result of one run. `exit_code` and the streams are present whenever the command started."""

    execution_id: str
    """The request's, or a random UUID."""
    status: Status
    """`success`, `error` (failed, or never started), `timeout`, or `killed` (by a limit, a security rule or the caller)."""
    started_at: str
    """When the run started: RFC 3339, UTC, milliseconds."""
    finished_at: str
    """When the result was complete: RFC 3339, UTC, milliseconds."""
    exit_code: int | None
    """The command's exit code; 124 after a timeout, 137 after a kill, 128+N for signal N; None if it never started."""
    signal: str | None
    """The signal that ended the command, such as `SIGSEGV`."""
    stdout_stream: Output | None
    """Standard output; None if it was not captured."""
    stderr_stream: Output | None
    """Standard error; None if it was not captured."""
    metrics: Metrics | None
    """Measurements; None if the command never started."""
    isolation: Mapping[str, object]
    """The layers and mechanisms in force, as confirmed by the kernel."""
    error: Failure | None
    """Why the status is not `success`."""
    collected: tuple[CollectedFile, ...] = ()
    """The files that `collect` named; `files` has them by path."""
    not_collected: tuple[NotCollected, ...] = ()
    """Files that `collect` named and that were not collected."""
    limits_hit: tuple[Mapping[str, object], ...] = ()
    """Limits that were reached without ending the run: `code`, `cause` and `details` of each."""
    postmortem: Mapping[str, object] | None = None
    """What each thread was doing just before a timeout."""
    changes: tuple[Change, ...] | None = None
    """What the command changed in the workspace; None if that was not examined."""
    changes_truncated: bool = False
    """Whether there are more changes than are listed."""
    diff: str | None = None
    """A unified diff of what the command changed; None if that was not asked for."""
    diff_truncated: bool = False
    """Whether the diff leaves changes out."""
    not_applied: tuple[NotApplied, ...] = ()
    """Changes and collected files that could not be written to the host."""
    measurement: Mapping[str, object] | None = None
    """Whether the timing can be trusted; None for a run of under 20 ms."""
    denied: tuple[Mapping[str, object], ...] = ()
    """System calls that were refused, each kind once."""
    denied_count: int = 0
    """How many calls were refused in all."""
    processes: tuple[Mapping[str, object], ...] | None = None
    """Every process of the run; None if `ledger` was not given, or the host cannot record processes."""
    output: tuple[OutputPiece, ...] | None = None
    """Both streams as they arrived: seconds since `started_at`, "stdout" or "stderr", text; None without a callback."""

    @property
    def files(self) -> dict[str, CollectedFile]:
        """The collected files, by path relative to the workspace."""
        return {file.path: file for file in self.collected}

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.status == SUCCESS

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD (`stdout_data` has them exactly)."""
        return self.stdout_data.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD (`stderr_data` has them exactly)."""
        return self.stderr_data.decode("utf-8", "replace")

    @property
    def stdout_data(self) -> bytes:
        """The exact bytes of standard output that were kept; empty when it was streamed or never started."""
        return self.stdout_stream.data if self.stdout_stream is not None else b""

    @property
    def stderr_data(self) -> bytes:
        """The exact bytes of standard error that were kept; empty when it was streamed or never started."""
        return self.stderr_stream.data if self.stderr_stream is not None else b""

    def check(self) -> Self:
        """Return this result if the command ended with exit code 0.

        Raises RunError, which carries the result, if it did not.
        """
        if self.error is None:
            return self
        raise RunError(self)

    def to_dict(self) -> dict[str, object]:
        """The JSON API's response: what was not measured, or never happened, is absent."""
        fields: dict[str, object] = {
            "execution_id": self.execution_id,
            "status": self.status,
            "exit_code": self.exit_code,
            "signal": self.signal,
            **result_parts.output_fields("stdout", self.stdout_stream),
            **result_parts.output_fields("stderr", self.stderr_stream),
            "output": self.output,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "metrics": self.metrics and self.metrics.to_dict(),
            "isolation": self.isolation or None,
            "measurement": self.measurement,
            "processes": self.processes,
            "limits_hit": self.limits_hit or None,
            "denied": self.denied or None,
            "denied_count": self.denied_count or None,
            "postmortem": self.postmortem,
            "files": {file.path: file.to_dict() for file in self.collected} or None,
            "not_collected": [dict(one.__dict__) for one in self.not_collected] or None,
            "changes": None if self.changes is None else [change.to_dict() for change in self.changes],
            "changes_truncated": self.changes_truncated or None,
            "diff": self.diff,
            "diff_truncated": self.diff_truncated or None,
            "not_applied": [dict(one.__dict__) for one in self.not_applied] or None,
            "error": self.error and self.error.to_dict(),
        }
        return {name: result_parts.plain(field) for name, field in fields.items() if field is not None}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict()` as JSON text."""
        return strict_json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, response: Mapping[str, object]) -> Self:
        """Make a result from a JSON API response (`to_dict()`, or a response that `json.loads` parsed).

        Fields that this version does not know are left out. Raises ValueError if it is no response.
        """
        return cls(**result_reader.fields_of_response(response))

    def __repr__(self) -> str:
        words = [repr(self.status), f"exit_code={self.exit_code}"]
        if self.error is not None:
            words.append(f"error={self.error.code}: {self.error.message[:_SHOWN_CHARACTERS]!r}")
        if self.metrics is not None:
            words.append(f"wall_ms={self.metrics.wall_ms:.1f}")
        if self.stdout_stream is not None:
            start = self.stdout_data[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")[:_SHOWN_CHARACTERS]
            more = "…" if len(self.stdout_data) > len(start.encode()) else ""
            words.append(f"stdout={start!r}{more}")
        return f"Result({', '.join(words)})"

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: the error, both streams, and images among the files."""
        return notebook.html_of_run(
            headline=f"{self.status}, exit code {self.exit_code}",
            error=None if self.error is None else (self.error.code, self.error.message, self.error.hint),
            streams={"stdout": self.stdout, "stderr": self.stderr},
            files={file.path: file.data for file in self.collected},
        )


class RunError(CapsuleError):
    """Raised by `Result.check()` if a run did not end with exit code 0; `result` is its result."""

    def __init__(self, result: Result) -> None:
        if result.error is None:
            raise ValueError("a run that succeeded is no error")
        failure = result.error
        super().__init__(failure.code, failure.message, cause=failure.cause, details=failure.details, hint=failure.hint)
        self.result = result
        self.execution_id = result.execution_id

    def __reduce__(self) -> tuple[object, ...]:
        return RunError, (self.result,)
