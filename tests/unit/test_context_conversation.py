"""The decisions about cells, without a process: clocks, interrupts, losses. Times are numbers."""

from __future__ import annotations

import pytest
from test_context_protocol import frame, message, messages

from capsule_run.contexts import protocol
from capsule_run.contexts.conversation import MOST_RESULT_BYTES, CellRequest, Conversation
from capsule_run.model.cell import CellError

READY = messages(message(protocol.READY, {"version": "3.12.1"}))


def request(**fields):
    given = {
        "code": "1", "timeout_ms": 1000, "grace_ms": 500, "max_output_bytes": 10, "memory_bytes": None,
        "on_stdout": None, "on_stderr": None, "on_result": None,
    }  # fmt: skip
    return CellRequest(**(given | fields))


def done(number, **error):
    return messages(message(protocol.DONE, {"number": str(number), **error}))


def running(**fields):
    """A conversation with a cell that began at 10."""
    one = Conversation(b"program", follows_a_loss=fields.pop("follows_a_loss", False), now=0)
    one.receive(READY, 5)
    one.outgoing.clear()
    one.begin(request(**fields), 10)
    return one


def test_conversation_sends_its_program_before_anything_else():
    """A cell waits until the interpreter does."""
    one = Conversation(b"program", follows_a_loss=False, now=0)
    one.begin(request(), 0)
    assert b"program" == one.outgoing
    one.receive(READY, 7)
    assert one.outgoing.startswith(b"program\x01")
    assert 8 == one.deadline


def test_interpreter_that_does_not_start_is_killed():
    """The start has a limit of its own."""
    one = Conversation(b"", follows_a_loss=False, now=0)
    one.begin(request(timeout_ms=86_400_000), 0)
    one.expire(29)
    assert not one.must_kill
    one.expire(30)
    assert one.must_kill
    one.lost(None, "error", 31)
    assert "InterpreterNotStarted" == one.result.error.name


def test_cell_that_ends_in_time_has_no_deadline():
    """Its duration is from its begin to its end."""
    one = running()
    one.receive(done(1), 10.25)
    assert ("success", 250, None, False) == (one.result.status, one.result.duration_ms, one.deadline, one.is_running)


def test_deadline_interrupts_once_then_kills():
    """First the interrupt and its grace, then the end."""
    one = running()
    one.outgoing.clear()
    one.expire(11)
    assert protocol.encode_interrupt() == one.outgoing
    assert (11.5, False) == (one.deadline, one.must_kill)
    one.expire(11.4)
    one.interrupt(11.4)  # has been interrupted
    assert protocol.encode_interrupt() == one.outgoing
    one.expire(11.5)
    assert one.must_kill
    one.lost(None, "error", 12)
    assert ("timeout", True) == (one.result.status, one.result.state_lost)


@pytest.mark.parametrize("error", [{}, {"name": "KeyboardInterrupt"}, {"name": "ValueError", "message": "late"}])
def test_cell_that_ends_within_its_grace_has_timed_out(error):
    """However it ends after its deadline: the time limit ended it, and the state is kept."""
    one = running()
    one.expire(11)
    one.receive(done(1, **error), 11.2)
    result = one.result
    assert ("timeout", "timeout", False) == (result.status, result.error.cause, result.state_lost)
    assert error.get("name", "TimeLimit") == result.error.name


def test_output_after_the_limit_is_counted_and_still_streamed():
    """The first bytes are kept; functions get all."""
    got = []
    one = running(on_stdout=got.append)
    one.receive(frame(1, b"123456"), 10) or one.receive(frame(1, b"789012"), 10)
    one.receive(done(1), 10)
    assert ("1234567890", 12, True) == (
        one.result.stdout,
        one.result.stdout_stream.total_bytes,
        one.result.stdout_stream.truncated,
    )
    assert ["123456", "789012"] == got


def test_character_that_is_cut_in_two_is_streamed_whole():
    """Functions get text: a character that arrives in pieces is one, a piece that never ends is replaced at the end."""
    got = []
    one = running(on_stdout=got.append)
    for piece in (b"\xc3", b"\xa9", b"\xff", b"\xe2\x82"):
        one.receive(frame(1, piece), 10)
    one.receive(done(1), 10)
    assert ["é", "\ufffd", "\ufffd"] == got


def test_result_bytes_of_a_cell_are_bounded():
    """Results beyond the bytes that a cell may have are counted."""
    one = running()
    big = messages(message(2, {"main": "0", "data text/html": "x" * (8 << 20)}))
    for _ in range(12):
        one.receive(big, 10)
    one.receive(done(1), 10)
    assert (MOST_RESULT_BYTES >> 23, 4) == (len(one.result.results), one.result.results_omitted)


def test_reason_of_the_sandbox_is_the_cells_error():
    """If a limit of the sandbox ended the interpreter, the result says which."""
    one = running()
    one.lost(CellError(cause="memory", name="MemoryLimit", message="used 64 MiB", hint="raise it"), "killed", 11)
    assert ("killed", "memory", "raise it") == (one.result.status, one.result.error.cause, one.result.error.hint)
    assert one.result.error.message.startswith("used 64 MiB; all variables are lost")


def test_name_error_after_a_loss_has_a_hint_until_a_cell_succeeds():
    """The hint is for code that does not know of the loss."""
    one = running(follows_a_loss=True)
    one.receive(done(1, name="NameError"), 10)
    assert "lost" in one.result.error.hint
    one.begin(request(), 10)
    one.receive(done(2), 10)
    one.begin(request(), 10)
    one.receive(done(3, name="NameError"), 10)
    assert "" == one.result.error.hint


@pytest.mark.parametrize("sent", [done(2), READY, b"noise", messages(message(3, {"number": "1", "evil": ""}))])
def test_message_that_cannot_be_ends_the_conversation(sent):
    """A message at the wrong time, or none at all, ends this interpreter."""
    one = running()
    one.receive(sent, 10)
    assert one.must_kill
    one.lost(None, "error", 11)
    assert ("protocol", True) == (one.result.error.cause, one.result.state_lost)


def test_output_between_cells_belongs_to_no_cell():
    """What arrives while no cell runs is dropped; the end of a cell is not believed then."""
    one = running()
    one.receive(done(1), 10)
    one.receive(frame(1, b"late"), 10)
    assert not one.must_kill
    one.receive(done(1), 10)
    assert one.must_kill


def test_numbers_of_a_forged_place_are_bounded():
    """Line and column are numbers of a reasonable size, or absent."""
    one = running()
    one.receive(done(1, name="E", line="9" * 5000, column="-1"), 10)
    assert (None, None) == (one.result.error.line, one.result.error.column)


def test_cell_result_shows_itself_in_a_notebook_and_in_one_line():
    """Text from inside is escaped; `repr` is short."""
    one = running(max_output_bytes=10_000)
    one.receive(frame(1, b"<script>"), 10)
    one.receive(messages(message(2, {"main": "1", "data text/plain": "<b>", "data image/png": "iVBORw0KGgo="})), 10)
    one.receive(done(1, name="E", message="<i>" * 99), 10)
    html = one.result._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "data:image/png;base64," in html
    assert len(repr(one.result)) < 250
