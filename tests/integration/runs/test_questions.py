"""A stage asks a person: its run is held, the answer reaches the item that asked, and no other hold goes with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from automation.errors import (
    AmbiguousQuestion,
    InvalidAnswer,
    NothingAsked,
    QuestionClosed,
    QuestionNotFound,
    TransitionRefused,
)
from automation.models import AutomationRun, ItemFailure, Lifecycle, RunQuestion, Ticket
from automation.pipeline import NeedsInput, Payload
from automation.pipeline.context import StageContext
from automation.reports import status
from automation.runs import answering, lifecycle
from automation.worker.stage_loop import StageLoop
from pause_manager.models import Hold
from tests.support import asking_pipelines
from tests.support.factories import (
    OPERATOR,
    drain,
    events,
    expire_leases,
    leased,
    make_run,
    outputs,
    run_loop,
    settle,
    stage_of,
    worker,
)
from tests.support.pipelines import scripted

assert asking_pipelines
pytestmark = pytest.mark.django_db(transaction=True)

Script = Callable[[Payload, StageContext], None]


def asking_about(
    *numbers: object, choices: tuple[str, ...] | None = ("yes", "no"), heard: list[Any] | None = None
) -> Script:
    """Each of these items asks until it is answered, and tells what it ``heard``."""

    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] in numbers:
            if ctx.answer is None:
                raise NeedsInput(f"Publish {item['n']}?", choices=choices)
            if heard is not None:
                heard.append((item["n"], ctx.answer))

    return script


def asked(run: AutomationRun) -> list[str]:
    return [one.question for one in answering.open_questions(run.pk)]


def kinds_of_holds(run: AutomationRun) -> list[str]:
    return sorted(Hold.objects.covering([run.scope]).values_list("kind", flat=True))


@pytest.mark.req("S-30")
def test_the_run_is_held_and_the_item_gets_its_answer():
    heard: list[Any] = []
    with scripted(asking_about(7, heard=heard)):
        run = drain(make_run("scripted", items=12))

        assert status.of(run) == status.PAUSED
        assert asked(run) == ["Publish 7?"]
        assert kinds_of_holds(run) == ["needs_input"]
        assert {one["n"] for one in outputs(run)} >= {1, 2, 3, 4, 5, 6}
        assert 7 not in {one["n"] for one in outputs(run)}

        answering.answer(run.pk, "yes", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert heard == [(7, "yes")]
    assert [one["n"] for one in outputs(run)] == list(range(1, 13))
    assert not ItemFailure.objects.exists()
    question = RunQuestion.objects.get()
    assert (question.answer, question.answered_by, question.item_key) == ("yes", "user:olga", outputs_key(7))


def outputs_key(number: int) -> str:
    return f"{number - 1:03}" if number < 1000 else str(number)


@pytest.mark.req("S-30")
def test_answering_releases_that_hold_only():
    with scripted(asking_about(1)):
        run = drain(make_run("scripted", items=3))
        lifecycle.pause(run.pk, actor=OPERATOR, reason="I look at it")

        answering.answer(run.pk, "no", actor=OPERATOR)

        assert kinds_of_holds(run) == ["operator"]
        assert drain(run).lifecycle == Lifecycle.RUNNING
        lifecycle.resume(run.pk, actor=OPERATOR)
        assert drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("S-31")
def test_resuming_does_not_answer():
    with scripted(asking_about(1)):
        run = drain(make_run("scripted", items=3))

        with pytest.raises(TransitionRefused, match="needs_input hold"):
            lifecycle.resume(run.pk, actor=OPERATOR)

        assert kinds_of_holds(run) == ["needs_input"]


def test_a_wrong_answer_is_refused_and_names_the_allowed():
    with scripted(asking_about(1)):
        run = drain(make_run("scripted", items=3))

    with pytest.raises(InvalidAnswer, match="expected one of yes, no, got: 'perhaps'"):
        answering.answer(run.pk, "perhaps", actor=OPERATOR)

    assert asked(run) == ["Publish 1?"]


def test_any_text_answers_a_question_without_choices_but_not_an_empty_one():
    heard: list[Any] = []
    with scripted(asking_about(1, choices=None, heard=heard)):
        run = drain(make_run("scripted", items=3))
        with pytest.raises(InvalidAnswer, match="1 to 2,000 characters, got 0"):
            answering.answer(run.pk, "  ", actor=OPERATOR)

        answering.answer(run.pk, " The blue one ", actor=OPERATOR)
        drain(run)

    assert heard == [(1, "The blue one")]
    assert "blue" not in str([(event.reason, event.details) for event in events(run)])


def test_several_loops_ask_at_once_and_the_hold_goes_with_the_last_answer():
    """Two loops are at items of two slices when the first asks; each question is kept."""
    both = threading.Barrier(2, timeout=20)
    heard: list[Any] = []

    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] in (1, 6) and ctx.answer is None:
            both.wait()
        asking_about(1, 6, heard=heard)(item, ctx)

    with scripted(script):
        run = make_run("scripted", items=10)
        Ticket.objects.all().delete()
        loops = [threading.Thread(target=_loop, args=(run, name)) for name in ("a", "b")]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join(30)

        first, second = answering.open_questions(run.pk)
        with pytest.raises(AmbiguousQuestion, match=rf"{first.pk} \(scripted .*\), {second.pk} \(scripted"):
            answering.answer(run.pk, "yes", actor=OPERATOR)
        answering.answer(run.pk, "yes", actor=OPERATOR, question_id=second.pk)
        assert kinds_of_holds(run) == ["needs_input"]
        answering.answer(run.pk, "no", actor=OPERATOR, question_id=first.pk)
        assert kinds_of_holds(run) == []
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert sorted(heard) == sorted([(_number(first), "no"), (_number(second), "yes")])


def _loop(run: AutomationRun, name: str) -> None:
    try:
        StageLoop(stage_of(run), worker(name)).run()
    finally:
        connection.close()


def _number(question: RunQuestion) -> int:
    return int(question.question.removeprefix("Publish ").removesuffix("?"))


def test_one_answer_for_all_open_questions_of_the_stage():
    heard: list[Any] = []
    with scripted(asking_about(2, 3, heard=heard)):
        run = drain(make_run("several", items=8))
        assert sorted(asked(run)) == ["Publish 2?", "Publish 3?"]

        answering.answer(run.pk, "yes", actor=OPERATOR, applies_to="all")
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert sorted(heard) == [(2, "yes"), (3, "yes")]
    assert [(one["n"], one["answer"]) for one in outputs(run)] == [
        (n, "yes" if n in (2, 3) else None) for n in range(1, 9)
    ]


def test_what_worked_beside_the_item_that_asks_is_not_done_again():
    """Of items in flight at once, those after the one that asks are committed."""
    done: list[int] = []

    def script(item: Payload, ctx: StageContext) -> None:
        asking_about(2)(item, ctx)
        done.append(item["n"])

    with scripted(script):
        run = drain(make_run("several", items=8))
        answering.answer(run.pk, "yes", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert sorted(done) == list(range(1, 9))


def test_a_group_asks_as_one():
    with scripted(asking_about(4)):
        run = drain(make_run("gathered", items=9))
        assert asked(run) == ["Publish 4?"]
        answering.answer(run.pk, "yes", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [one["answer"] for one in outputs(run)] == [None, "yes", None]


@pytest.mark.parametrize("hook", ["prepare", "setup", "finish"])
def test_a_hook_asks(hook: str):
    heard: list[Any] = []
    with scripted(asking_about(hook, heard=heard)):
        run = drain(make_run("asking-hooks", items=3))
        assert asked(run) == [f"Publish {hook}?"]
        assert RunQuestion.objects.get().item_key == hook

        answering.answer(run.pk, "no", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert set(heard) == {(hook, "no")}


def test_an_item_may_ask_one_question_after_the_other():
    heard: list[dict[str, str]] = []

    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] == 2:
            for question in ("Colour?", "Size?"):
                if question not in ctx.answers:
                    raise NeedsInput(question)
            heard.append(ctx.answers)

    with scripted(script):
        run = drain(make_run("scripted", items=3))
        answering.answer(run.pk, "blue", actor=OPERATOR)
        assert asked(drain(run)) == ["Size?"]
        answering.answer(run.pk, "large", actor=OPERATOR)
        drain(run)

    assert heard == [{"Colour?": "blue", "Size?": "large"}]


def test_a_crash_between_the_answer_and_the_work_loses_no_answer():
    """A worker takes the item after the answer, and dies before it has done anything."""
    heard: list[Any] = []
    with scripted(asking_about(2, heard=heard)):
        run = drain(make_run("scripted", items=3))
        answering.answer(run.pk, "yes", actor=OPERATOR)
        leased(run, "dies")
        expire_leases(run)
        run = settle(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert heard == [(2, "yes")]
    assert [event.action for event in events(run, "asked", "worker_lost")] == ["asked", "worker_lost"]


def test_a_cancel_closes_the_question():
    with scripted(asking_about(1)):
        run = drain(make_run("scripted", items=3))
    question = answering.open_questions(run.pk)[0]

    lifecycle.cancel(run.pk, actor=OPERATOR)

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED
    assert answering.open_questions(run.pk) == []
    assert kinds_of_holds(run) == []
    with pytest.raises(QuestionClosed, match="its run has ended"):
        answering.answer(run.pk, "yes", actor=OPERATOR, question_id=question.pk)
    with pytest.raises(NothingAsked):
        answering.answer(run.pk, "yes", actor=OPERATOR)


def test_a_question_raised_after_a_cancel_is_not_asked():
    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] == 2:
            lifecycle.cancel(AutomationRun.objects.get().pk, actor=OPERATOR)
            raise NeedsInput("Still?")

    with scripted(script):
        run = drain(make_run("scripted", items=4))

    assert run.lifecycle == Lifecycle.CANCELLED
    assert not RunQuestion.objects.exists()


def test_a_loop_that_lost_its_slice_asks_nothing():
    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] == 2:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE automation_workslice SET lease_token = lease_token + 1000 WHERE lease_token > 0")
            raise NeedsInput("Mine?")

    with scripted(script):
        run = make_run("scripted", items=4)
        run_loop(run)

    assert not RunQuestion.objects.exists()
    assert kinds_of_holds(run) == []


def test_without_the_fence_it_would(monkeypatch):
    monkeypatch.setattr("automation.leases.give_back", lambda work, **_: None)

    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] == 2:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE automation_workslice SET lease_token = lease_token + 1000 WHERE lease_token > 0")
            raise NeedsInput("Mine?")

    with scripted(script):
        run_loop(make_run("scripted", items=4))

    assert RunQuestion.objects.exists()


def test_questions_are_answered_once():
    with scripted(asking_about(1)):
        run = drain(make_run("scripted", items=3))
    (question,) = answering.open_questions(run.pk)
    answering.answer(run.pk, "yes", actor=OPERATOR)

    with pytest.raises(QuestionClosed, match="it was answered 'yes' by user:olga at "):
        answering.answer(run.pk, "no", actor=OPERATOR, question_id=question.pk)
    with pytest.raises(QuestionNotFound):
        answering.answer(run.pk, "no", actor=OPERATOR, question_id=question.pk + 1)


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ("", None),
        ("x" * 2_001, None),
        (7, None),
        ("Which?", "ab"),
        ("Which?", ()),
        ("Which?", ("a", "a")),
        ("Which?", (" a",)),
        ("Which?", ("a\x00",)),
        ("Which?", ("x" * 201,)),
        ("Which?", [str(n) for n in range(21)]),
    ],
)
def test_a_question_that_cannot_be_asked_says_why(question: str, choices: object):
    with pytest.raises(ValueError, match="NeedsInput expected"):
        NeedsInput(question, choices)  # type: ignore[arg-type]
