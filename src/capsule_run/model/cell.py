"""The result of one cell: code that ran in a context, an interpreter that keeps its state (docs/contexts.md).

The names are those that SDK users know from other code interpreters: `text`, `results[0].png`, `logs.stdout`, `error.name`.
Everything but `status`, `state_lost`, `duration_ms` and `execution_count` comes from inside the sandbox.
"""

from __future__ import annotations

from binascii import a2b_base64

from capsule_run._base import strict_json
from capsule_run._base.errors import CapsuleError
from capsule_run._base.statuses import SUCCESS
from capsule_run._base.value import Value
from capsule_run.model import notebook, result_parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from capsule_run._base.statuses import Status
    from capsule_run.model.result_parts import Output

_SHOWN_CHARACTERS = 60  # of the text in a `repr`


class CellError(Value):
    """Why a cell did not end by itself without an exception."""

    cause: str
    """One word for programs: `exception`, `timeout`, `cancelled`, `exit`, `signal`, `memory`, `protocol` or `ended`."""
    name: str
    """The class of the exception, such as `ZeroDivisionError`; without one, a name for the cause, such as `TimeLimit`."""
    message: str
    """The exception's text; without an exception, one sentence."""
    traceback: str = ""
    """The traceback with the frames of the code, and of what it called; empty without an exception."""
    line: int | None = None
    """The line of the cell that raised the exception, or that has the syntax error."""
    column: int | None = None
    """The column of a syntax error."""
    hint: str = ""
    """What to do about it; empty if there is nothing to say."""

    @property
    def value(self) -> str:
        """`message`, as other code interpreters name it."""
        return self.message

    def to_dict(self) -> dict[str, object]:
        """The `error` object: what does not apply is absent."""
        return {name: field for name, field in self.__dict__.items() if field not in (None, "")}


class RichResult(Value):
    """A value that a cell displayed, or its last expression: one representation for each MIME type.

    Images and PDF are base64; `image_bytes` decodes one.
    """

    data: Mapping[str, str]
    """MIME type → representation. JSON is text; `json` parses it."""
    is_main_result: bool
    """Whether it is the value of the cell's last expression."""
    omitted: Mapping[str, int]
    """MIME type → size in bytes of each representation that was too large."""

    @property
    def text(self) -> str | None:
        """text/plain."""
        return self.data.get("text/plain")

    @property
    def html(self) -> str | None:
        """text/html."""
        return self.data.get("text/html")

    @property
    def markdown(self) -> str | None:
        """text/markdown."""
        return self.data.get("text/markdown")

    @property
    def latex(self) -> str | None:
        """text/latex."""
        return self.data.get("text/latex")

    @property
    def javascript(self) -> str | None:
        """application/javascript."""
        return self.data.get("application/javascript")

    @property
    def svg(self) -> str | None:
        """image/svg+xml, as text."""
        return self.data.get("image/svg+xml")

    @property
    def png(self) -> str | None:
        """image/png, in base64."""
        return self.data.get("image/png")

    @property
    def jpeg(self) -> str | None:
        """image/jpeg, in base64."""
        return self.data.get("image/jpeg")

    @property
    def pdf(self) -> str | None:
        """application/pdf, in base64."""
        return self.data.get("application/pdf")

    @property
    def json(self) -> object:
        """application/json, parsed; None if there is none, or if it is not strict JSON."""
        try:
            return strict_json.loads(self.data["application/json"])
        except (KeyError, CapsuleError):
            return None

    def formats(self) -> list[str]:
        """Return the MIME types."""
        return list(self.data)

    def image_bytes(self, kind: str = "image/png") -> bytes | None:
        """Return a base64 representation as bytes; None if there is none, or if it is not base64."""
        try:
            return a2b_base64(self.data[kind])
        except (KeyError, ValueError):
            return None

    def to_dict(self) -> dict[str, object]:
        """The member of `results`."""
        fields = {"data": dict(self.data), "is_main_result": self.is_main_result, "omitted": dict(self.omitted) or None}
        return {name: field for name, field in fields.items() if field is not None}


class Logs(Value):
    """What a cell wrote to its streams, as lists of text, as other code interpreters have it."""

    stdout: list[str]
    """Standard output; empty if there was none."""
    stderr: list[str]
    """Standard error; empty if there was none."""


class CellResult(Value):
    """The result of one cell. It is there however the cell ended."""

    status: Status
    """`success`, `error` (an exception, or the interpreter ended), `timeout`, or `killed` (by a limit or the caller)."""
    execution_count: int
    """The number of the cell in its interpreter, from 1."""
    results: tuple[RichResult, ...]
    """The value of the last expression and everything that the cell displayed, in this order of time."""
    stdout_stream: Output
    """Standard output of the code and its child processes."""
    stderr_stream: Output
    """Standard error of the code and its child processes."""
    error: CellError | None
    """Why the status is not `success`."""
    state_lost: bool
    """Whether the interpreter is gone, with its variables: the next cell starts a new one."""
    duration_ms: float
    """From sending the code until its end was known, on this side."""
    results_omitted: int = 0
    """How many results are missing, because there were too many or they were too large."""

    @property
    def ok(self) -> bool:
        """Whether the cell ended without an exception."""
        return self.status == SUCCESS

    @property
    def text(self) -> str | None:
        """The value of the last expression, as `repr` shows it; None if there is none."""
        return next((one.text for one in reversed(self.results) if one.is_main_result), None)

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout_stream.data.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr_stream.data.decode("utf-8", "replace")

    @property
    def logs(self) -> Logs:
        """Both streams, as other code interpreters have them."""
        return Logs(stdout=[self.stdout] if self.stdout else [], stderr=[self.stderr] if self.stderr else [])

    def to_dict(self) -> dict[str, object]:
        """Return everything as what JSON can hold; fields that do not apply are absent."""
        fields: dict[str, object] = {
            "status": self.status,
            "execution_count": self.execution_count,
            "text": self.text,
            "results": [one.to_dict() for one in self.results],
            "results_omitted": self.results_omitted or None,
            **result_parts.output_fields("stdout", self.stdout_stream),
            **result_parts.output_fields("stderr", self.stderr_stream),
            "error": self.error and self.error.to_dict(),
            "state_lost": self.state_lost,
            "duration_ms": round(self.duration_ms, 3),
        }
        return {name: field for name, field in fields.items() if field is not None}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict()` as JSON text."""
        return strict_json.dumps(self.to_dict(), indent=indent)

    def __repr__(self) -> str:
        words = [repr(self.status), f"execution_count={self.execution_count}"]
        if self.error is not None:
            words.append(f"error={self.error.name}: {self.error.message[:_SHOWN_CHARACTERS]!r}")
        if self.text is not None:
            words.append(f"text={self.text[:_SHOWN_CHARACTERS]!r}")
        if self.state_lost:
            words.append("state_lost=True")
        return f"CellResult({', '.join(words)})"

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: the error, both streams, the value and the images. No HTML of the code itself."""
        error = self.error
        return notebook.html_of_run(
            headline=f"cell {self.execution_count}: {self.status}",
            error=None if error is None else (error.name, error.traceback or error.message, error.hint),
            streams={"stdout": self.stdout, "stderr": self.stderr, "value": self.text or ""},
            files={name: data for name, data in self._images() if data},
        )

    def _images(self) -> list[tuple[str, bytes | None]]:
        named = enumerate(self.results, 1)
        return [(f"result-{n}.{end}", one.image_bytes(f"image/{end}")) for n, one in named for end in ("png", "jpeg")]
