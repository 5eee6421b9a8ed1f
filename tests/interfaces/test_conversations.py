"""Tools that keep state: a sandbox for each conversation, within the operator's limits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from capsule_run import CapsuleError
from capsule_run.agents.conversations import LOST
from capsule_run.tooling import Conversations, operator

pytestmark = pytest.mark.sandbox


@pytest.fixture
def conversations():
    with Conversations(operator(), most=2) as made:
        yield made


def value(answer):
    """The value of a cell that succeeded."""
    assert answer.result is not None, answer.text
    return answer.result.text


def test_conversation_keeps_variables_and_files_of_its_own(conversations):
    """Calls of one conversation share state, and no other conversation sees it."""
    conversations.answer("one", {"code": "x = 20; open('file', 'w').close()"})
    assert "(21, ['file'])" == value(conversations.answer("one", '{"code": "import os; (x + 1, os.listdir())"}'))
    assert "(False, [])" == value(
        conversations.answer("two", {"code": "import os; ('x' in globals(), os.listdir())", "language": "python"})
    )
    assert "stdout: empty" in conversations.answer("one", {"code": "None"}).text


def test_conversation_that_was_idle_for_longest_ends_for_a_new_one(conversations):
    """Its next call begins anew, and says that its state is lost."""
    for name in ("one", "two", "one", "three"):
        conversations.answer(name, {"code": f"x = {name!r}"})
    assert "'one'" == value(conversations.answer("one", {"code": "x"}))
    answer = conversations.answer("two", {"code": "x"})
    assert (True, "NameError") == (answer.text.startswith(LOST), answer.result.error.name)
    assert not conversations.answer("two", {"code": "1"}).text.startswith(LOST)


def test_conversation_that_runs_code_is_not_ended_for_another():
    """A new one is refused as long as every place is taken."""
    with Conversations(operator(), most=1) as conversations:
        conversations.answer("one", {"code": "import os, time"})
        box = conversations._living["one"].box
        code = "open('began', 'w').close()\nwhile not os.path.exists('end'): time.sleep(0.01)\n'ended'"
        answers = []
        thread = threading.Thread(target=lambda: answers.append(conversations.answer("one", {"code": code})))
        thread.start()
        while not box.files.exists("began"):
            pass
        refused = conversations.answer("two", {"code": "1"})
        box.files.write("end", "")
        thread.join()
        assert (None, True, "'ended'") == (refused.result, refused.is_fault, value(answers[0]))
        assert "code of 1 conversations runs" in refused.text


def test_conversation_has_the_operators_limits():
    """Time, memory and languages are the operator's, and a model can only ask for less."""
    limits = operator({"resources": {"memory_bytes": 128 << 20}}, max_timeout_ms=1_000, languages=["bash", "python"])
    with Conversations(limits) as conversations:
        slow = conversations.answer("", {"code": "kept = 1\nimport time\ntime.sleep(60)", "timeout_seconds": 300})
        assert ("timeout", "1") == (slow.result.status, value(conversations.answer("", {"code": "kept"})))
        assert "memory" == conversations.answer("", {"code": "x = b'x' * (500 << 20)"}).result.error.cause
        refused = conversations.answer("", {"code": "1", "language": "javascript"})
        assert (None, True) == (refused.result, refused.is_fault)
        assert "must be `python`, got `javascript`" in refused.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("{", "E1001"), ({}, "send `code`"), ({"code": 5}, "code"), ({"code": "1", "sandbox": "other"}, "sandbox")],
)
def test_conversation_answers_wrong_arguments(conversations, arguments, said):
    """Nothing that a model sends raises, and nothing runs."""
    answer = conversations.answer("one", arguments)
    assert (None, True, True) == (answer.result, answer.is_fault, said in answer.text)


def test_cancelled_task_interrupts_its_code_and_keeps_the_conversation(conversations):
    """Variables are there for the next call."""

    async def main():
        await conversations.answer_async("one", {"code": "import time; kept = 7"})
        box = conversations._living["one"].box
        task = asyncio.ensure_future(conversations.answer_async("one", {"code": "open('began', 'w'); time.sleep(60)"}))
        while not box.files.exists("began"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await conversations.answer_async("one", {"code": "kept"})

    assert "7" == value(asyncio.run(main()))


def test_ended_conversation_begins_anew_without_a_note(conversations):
    """Its owner ended it, and nobody lost anything."""
    conversations.answer("one", {"code": "x = 1"})
    conversations.end("one")
    assert "False" == value(answer := conversations.answer("one", {"code": "'x' in globals()"}))
    assert not answer.text.startswith(LOST)


def test_number_of_conversations_is_checked():
    """The error names the option."""
    with pytest.raises(CapsuleError, match="`most` must be a number above 0, not 0"):
        Conversations(operator(), most=0)
