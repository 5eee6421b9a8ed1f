"""What the command line says: JSON on stdout, everything else of ours on stderr; and the request that it reads.

Rank 4. A run that ends well and quietly says nothing, so nothing of this is loaded for it.
"""

from __future__ import annotations

import posix
import time

from ..errors import exit_status
from ..outcome import failed_result, new_execution_id, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import CapsuleError
    from ..model import Request
    from ..result import Result


def visible(text: str) -> str:
    """Text for a terminal: names from inside may hold what moves a cursor or hides a word, and are shown as escapes."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def write_all(fd: int, text: str) -> None:
    """Write text to a descriptor. A reader that has gone away is not an error of ours: the exit code still tells."""
    view = memoryview((visible(text) if fd == 2 else text).encode("utf-8", "surrogateescape"))
    try:
        while view:
            view = view[posix.write(fd, view) :]
    except (BrokenPipeError, BlockingIOError):
        return
    except OSError as error:  # a full disk, an I/O error: the answer is lost, and that must be seen
        if fd != 2:
            write_all(2, f"capsule-run: cannot write the result: {posix.strerror(error.errno or 0).lower()}\n")
            raise SystemExit(125) from None


def _explain(result: Result) -> None:
    """On stderr, why it was not a clean end. A command's own exit code speaks for itself."""
    error = result.error
    if error is None or error.code == "E3003":
        return
    hint = f"\n\nhint: {error.hint}" if error.hint else ""
    doing = ""
    if result.postmortem is not None:
        from ..postmortem import in_words

        doing = "".join(f"\n  {line}" for line in in_words(result.postmortem))
    write_all(2, f"capsule-run: {error.code}: {error.message}{doing}{hint}\n")


def _say_what_is_kept(request: Request, result: Result) -> None:
    if result.changes or result.not_applied or result.not_collected:
        from .kept import lines

        write_all(2, "".join(f"capsule-run: {line}\n" for line in lines(request, result)))


def _tell_refusals(result: Result) -> None:
    """On stderr, in one line, which calls were refused and what would allow them."""
    if not result.denied or (result.error is not None and result.error.code == "E5001"):
        return
    from ..refusals import in_words

    words = in_words(result.denied, str(result.isolation["seccomp"]), ended_well=result.ok)
    if words:
        write_all(2, f"capsule-run: {words}\n")


def tell(request: Request, result: Result) -> None:
    """On stderr, what the caller of a run should know besides what the command said."""
    _explain(result)
    _say_what_is_kept(request, result)
    _tell_refusals(result)


def say_all(result: Result) -> None:
    """On stderr, for `-v`: what was in force, and what it cost."""
    from ..fastjson import dumps

    lines = [f"status: {result.status}", f"execution id: {result.execution_id}"]
    lines += [f"{name}: {dumps(fact, indent=None)}" for name, fact in result.isolation.items()]
    metrics = result.metrics
    if metrics is not None:
        lines.append(f"wall {metrics.wall_ms} ms, cpu {metrics.cpu_ms} ms")
        phases = ", ".join(f"{name} {micros} us" for name, micros in (metrics.startup or {}).items())
        lines.append(f"start-up: {phases}")
    write_all(2, "".join(f"capsule-run: {line}\n" for line in lines))


def print_steps(steps: list[str], *, json: bool, pretty: bool) -> int:
    """The steps of a plan in words, numbered; and the exit code."""
    from ..fastjson import dumps

    if json:
        write_all(1, dumps({"dry_run": True, "steps": steps}, indent=2 if pretty else None) + "\n")
    else:
        write_all(1, "".join(f"{number:3d}  {step}\n" for number, step in enumerate(steps, 1)))
    return 0


def print_json(result: Result, *, pretty: bool) -> None:
    """The response, on stdout."""
    write_all(1, result.to_json(indent=2 if pretty else None) + "\n")


def read_all(fd: int) -> bytes:
    """All that a descriptor gives, or as much as shows that it is too much for a request."""
    from ..jsonapi import MAX_REQUEST_BYTES

    parts, left = [], MAX_REQUEST_BYTES + 1
    while left > 0 and (part := posix.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def refused(error: CapsuleError, *, json: bool, pretty: bool) -> int:
    """The exit code of a request that never ran, once the same answer as a result is given in the form that was asked for."""
    name = error.execution_id or new_execution_id()
    result = failed_result(error, {"execution_id": name, "started_at": timestamp(time.time_ns())})
    if json or pretty:
        print_json(result, pretty=pretty)
    else:
        _explain(result)
    return exit_status(result.error, None)
