"""Run cells of Python, one after the other, in one namespace. Runs inside the sandbox, in the child of `relay.py`.

The code is as in a file that runs as `__main__`: its names are in a module of their own, in which there is no name of ours.
It can do to this program whatever it wants, since both are one process; the host trusts nothing that comes from here.

A request comes as a length of four bytes and JSON: `{"code", "number", "memory_bytes"}`.
A message goes as a length of four bytes, a byte for its kind, and texts, each with a length: a name, its value, and so on.

Standard library only, Python 3.8 or later; imports nothing of capsule-run (`contexts/program.py` sends it as text).
"""

from __future__ import annotations
import __future__

import ast
import builtins
import errno
import faulthandler
import json
import linecache
import os
import re
import resource
import signal
import struct
import sys
import traceback
import types
from _thread import allocate_lock, get_ident
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import _exit, getpid, read, write  # by name: the code may put something else into the modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    Error = dict[str, str]

READY, RESULT, DONE = 1, 2, 3  # kinds of messages
LARGEST_TEXT = 1 << 16  # characters of a message or a traceback
CO_COROUTINE = 0x80  # of `co_flags`: the code has an `await` at its top
FUTURES = 0
for _name in __future__.all_feature_names:
    FUTURES |= getattr(__future__, _name).compiler_flag
GRACE_OF_A_TASK = 0.5  # seconds that an interrupted `await` has for its `finally` clauses

INPUT_HINT = "a cell has no standard input: assign the value in the code, or read it from a file"
MAGIC_HINT = (
    "lines that begin with `%` or `!` are commands of IPython; a cell is plain Python: use `subprocess` for programs"
)
MEMORY_HINT = "raise the memory limit of the cell, or process the data in parts"


class Channel:
    """The way to the host. No interrupt can cut a message in two."""

    def __init__(self, requests: int, messages: int) -> None:
        self.requests, self.messages = requests, messages
        self.owner, self.main_thread = getpid(), get_ident()
        self.shielded = 0
        self.interruptible = False
        self.interrupted = False
        self.lock = allocate_lock()
        self.decode = json.JSONDecoder().decode

    def on_interrupt(self, _number: int, _frame: Any) -> None:
        """SIGINT: an exception of the cell that runs; nothing between two cells."""
        if self.interruptible:
            if not self.shielded:
                raise KeyboardInterrupt
            self.interrupted = True

    def receive(self) -> dict[str, Any] | None:
        """Return the next request; None if the host has closed its end."""
        header = self._read(4)
        payload = self._read(struct.unpack(">I", header)[0]) if header else b""
        return self.decode(payload.decode()) if payload else None

    def _read(self, length: int) -> bytes:
        blocks = []
        while length > 0:
            block = read(self.requests, min(length, 1 << 20))
            if not block:
                return b""
            blocks.append(block)
            length -= len(block)
        return b"".join(blocks)

    def send(self, kind: int, fields: dict[str, str]) -> None:
        """Send a message; a process that the code forked has nothing to send."""
        if getpid() != self.owner:
            return
        texts = [text.encode("utf-8", "backslashreplace") for pair in fields.items() for text in pair]
        payload = b"".join([bytes([kind]), *(struct.pack(">I", len(text)) + text for text in texts)])
        data = memoryview(struct.pack(">I", len(payload)) + payload)
        shield = int(get_ident() == self.main_thread)  # no other thread gets a signal
        self.shielded += shield
        self.lock.acquire()
        try:
            while data:
                data = data[write(self.messages, data) :]
        except OSError:
            # The code has closed our descriptor: say it where the caller sees it, and end, so that the host knows.
            write(2, b"the code closed the descriptor that its results are sent through\n")
            _exit(1)
        finally:
            self.lock.release()
            self.shielded -= shield
        if shield and self.interrupted and self.interruptible:
            self.interrupted = False
            raise KeyboardInterrupt


class Streams:
    """The standard streams. Each cell starts with its own, whatever the cell before did to them."""

    def __init__(self) -> None:
        self.spare = [fcntl(number, F_DUPFD_CLOEXEC, 900 if _descriptors() > 1000 else 3) for number in range(3)]
        self.same = [_identity(number) for number in range(3)]
        self.files = [_open(number) for number in range(3)]

    def restore(self) -> None:
        """Put descriptors 0 to 2, `sys.stdin`, `sys.stdout` and `sys.stderr` in their places."""
        for number in range(3):
            if _identity(number) != self.same[number]:
                os.dup2(self.spare[number], number)
            if self.files[number].closed:
                self.files[number] = _open(number)
        sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = self.files  # type: ignore[assignment,misc]

    def flush(self) -> None:
        """Write what was printed without the end of a line, also to what the code put in place of `sys.stdout`."""
        for file in (sys.stdout, sys.stderr, *self.files[1:]):
            try:
                file.flush()
            except Exception:
                pass


def _descriptors() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open(number: int) -> TextIO:
    """A text stream that shows what it cannot encode, instead of raising."""
    if number == 0:
        return open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    return open(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


class Interpreter:
    """The namespace of the cells, and what runs one cell."""

    def __init__(self, channel: Channel, display: Any) -> None:
        self.channel = channel
        self.display = display
        self.module = types.ModuleType("__main__")
        self.module.__dict__["__builtins__"] = builtins
        self.streams = Streams()
        self.flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.loop: Any = None

    def run(self, request: dict[str, Any]) -> dict[str, str]:
        """Run a cell, and return the fields of the message of its end."""
        file = f"<cell {request['number']}>"
        code = request["code"]
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
        self.streams.restore()
        sys.modules["__main__"] = self.module
        signal.signal(signal.SIGINT, self.channel.on_interrupt)
        error = None
        try:
            with DataLimit(request.get("memory_bytes")):
                self.channel.interruptible = True
                self.execute(code, file)
                self.display.show_figures()
        except BaseException as raised:
            error = self.describe(raised, request)
        try:
            self.streams.flush()
            self.display.close_figures()
        except BaseException as raised:
            error = error or self.describe(raised, request)
        self.channel.interruptible = self.channel.interrupted = False
        if getpid() != self.channel.owner:
            self.end_of_a_fork(error)
        return {"number": str(request["number"]), **(error or {})}

    def execute(self, code: str, file: str) -> None:
        """Run the statements, and show the value of the last expression unless a semicolon follows it."""
        tree = compile(code, file, "exec", self.flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = tree.body[-1] if tree.body else None
        shown = isinstance(last, ast.Expr) and not _has_semicolon(code, last)
        if shown:
            tree.body.pop()
        codes = [self.compiled(tree, file, "exec")]
        if shown:
            codes.append(self.compiled(ast.Expression(last.value), file, "eval"))  # type: ignore[union-attr]
        if any(code.co_flags & CO_COROUTINE for code in codes):
            value = self.awaited(self.run_in_loop(codes))
        else:
            value = [eval(code, self.module.__dict__) for code in codes][-1]
        if shown and value is not None:
            builtins._ = value  # type: ignore[attr-defined]  # as `sys.displayhook` does
            self.display.show(value, main=True)

    def compiled(self, tree: Any, file: str, mode: str) -> types.CodeType:
        """Compile with the `from __future__` of all cells before, and keep those of this one."""
        code: types.CodeType = compile(tree, file, mode, self.flags, dont_inherit=True)
        self.flags |= code.co_flags & FUTURES
        return code

    async def run_in_loop(self, codes: list[types.CodeType]) -> Any:
        """Run a cell with `await`: what comes before the first one has a running loop, too."""
        value = None
        for code in codes:
            value = eval(code, self.module.__dict__)
            if code.co_flags & CO_COROUTINE:
                value = await value
        return value

    def awaited(self, coroutine: Any) -> Any:
        """Run a cell with `await` in the event loop of this context. An interrupt cancels it."""
        import asyncio  # noqa: PLC0415  # costs 40 ms, and few cells await

        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            if not task.done():
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task], timeout=GRACE_OF_A_TASK))
            raise

    def describe(self, raised: BaseException, request: dict[str, Any]) -> Error | None:
        """Return an exception as data; None for an exit with success. Its own methods may raise, or be interrupted."""
        if isinstance(raised, SystemExit) and raised.code in (None, 0):
            return None
        name = type(raised).__name__
        try:
            frames = _own_frames(raised.__traceback__)
            raised = raised.with_traceback(frames)
            message = _text_of(raised)
            trace = traceback.TracebackException(type(raised), raised, frames)
            _leave_out_ours(trace)
            error = {"name": name, "message": _short(message), "traceback": _short("".join(trace.format()))}
            error.update(_place(raised, frames, f"<cell {request['number']}>"))
            hint = _hint(raised, message, request)
        except BaseException as other:
            return {"name": name, "message": f"its description raised {type(other).__name__}", "traceback": ""}
        return {**error, "hint": hint} if hint else error

    def end_of_a_fork(self, error: Error | None) -> None:
        """A child that the code forked and did not end is at the end of the cell: end it as the end of a program."""
        if error and error["name"] != "SystemExit":
            write(2, error["traceback"].encode("utf-8", "replace"))
        code = error["message"] if error and error["name"] == "SystemExit" else "1" if error else "0"
        _exit(int(code) & 0xFF if code.lstrip("-").isdigit() else 1)


class DataLimit:
    """A limit of the memory that a cell may allocate in addition, as the soft limit of the data segment."""

    def __init__(self, memory_bytes: int | None) -> None:
        self.more = memory_bytes
        self.before = resource.getrlimit(resource.RLIMIT_DATA)

    def __enter__(self) -> None:
        if self.more is not None:
            with open("/proc/self/statm", encoding="ascii") as file:
                used = int(file.read().split()[5]) * resource.getpagesize()
            hard = self.before[1]
            limit = used + self.more
            resource.setrlimit(
                resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
            )

    def __exit__(self, *_: object) -> None:
        if self.more is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (self.before[0], resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _has_semicolon(code: str, last: ast.stmt) -> bool:
    line = code.split("\n")[(last.end_lineno or 1) - 1].encode("utf-8", "surrogatepass")  # offsets count bytes
    return line[last.end_col_offset :].lstrip().startswith(b";")


def _own_frames(frames: types.TracebackType | None) -> types.TracebackType | None:
    """Leave out our frames, which come before the first one of a cell; none is left of an error of the compiler."""
    while frames is not None and not frames.tb_frame.f_code.co_filename.startswith("<cell "):
        frames = frames.tb_next
    return frames


def _leave_out_ours(trace: traceback.TracebackException) -> None:
    """Leave out the frames of this program that are not before all others, as that of an interrupt is."""
    waiting = [trace]
    for one in waiting:
        one.stack[:] = [frame for frame in one.stack if not frame.filename.startswith("<capsule-run ")]
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
        waiting += getattr(one, "exceptions", None) or []


def _text_of(raised: BaseException) -> str:
    try:
        return str(raised.code if isinstance(raised, SystemExit) else raised)
    except Exception as other:
        return f"<its text raised {type(other).__name__}>"


def _place(raised: BaseException, frames: types.TracebackType | None, file: str) -> dict[str, str]:
    """Return the line of the cell that raised, or line and column of a syntax error in it."""
    if isinstance(raised, SyntaxError) and raised.filename == file and raised.lineno:
        return {"line": str(raised.lineno), **({"column": str(raised.offset)} if raised.offset else {})}
    place: dict[str, str] = {}
    while frames is not None:
        if frames.tb_frame.f_code.co_filename == file:
            place = {"line": str(frames.tb_lineno)}
        frames = frames.tb_next
    return place


def _hint(raised: BaseException, message: str, request: dict[str, Any]) -> str:
    if isinstance(raised, EOFError) and message.startswith("EOF when reading a line"):
        return INPUT_HINT
    if isinstance(raised, SyntaxError) and re.search(r"^\s*[%!]", request["code"], re.MULTILINE):
        return MAGIC_HINT
    is_memory = isinstance(raised, MemoryError) or getattr(raised, "errno", None) == errno.ENOMEM
    return MEMORY_HINT if is_memory and request["memory_bytes"] is not None else ""


def _short(text: str) -> str:
    """Return the text, without its middle if it is very long."""
    if len(text) > LARGEST_TEXT:
        half = LARGEST_TEXT // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"
    return text


def main(requests: int, messages: int, make_display: Any) -> None:
    """Answer requests until the host closes its end. `make_display` is `Display` of `python_display.py`."""
    channel = Channel(requests, messages)
    signal.signal(signal.SIGINT, channel.on_interrupt)
    display = make_display(lambda fields: channel.send(RESULT, fields))
    interpreter = Interpreter(channel, display)
    interpreter.streams.restore()
    faulthandler.enable(interpreter.streams.spare[2], all_threads=False)
    display.install()
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, "")  # only now: no file of the workspace is imported in place of a module of this program
    channel.send(READY, {"version": sys.version.split()[0]})
    while True:
        request = channel.receive()
        if request is None:
            return
        channel.send(DONE, interpreter.run(request))
        del request
