"""Where a stage says ``on_exhausted = "hold"``, a person decides what becomes of what has failed too often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from automation import leases
from automation.errors import InvalidAnswer, PipelineError
from automation.models import AutomationRun, ItemFailure, Lifecycle, RunQuestion, WorkSlice
from automation.pipeline import AGENT, Payload, Pipeline, Stage, TryLater, register
from automation.pipeline.context import StageContext
from automation.reports import status
from automation.runs import answering, loop_failures, questions, reconciler
from tests.support import asking_pipelines
from tests.support.factories import OPERATOR, drain, leased, make_run, outputs, settle, stage_of
from tests.support.pipelines import scripted

assert asking_pipelines
pytestmark = pytest.mark.django_db(transaction=True)


class Faults:
    """Items that fail, until they are ``repaired``; counts the tries at each."""

    def __init__(self, is_bad: Callable[[Any], bool], message: str = "no such page {n}") -> None:
        self.is_bad = is_bad
        self.message = message
        self.is_repaired = False
        self.tries: dict[object, int] = {}

    def __call__(self, item: Payload, ctx: StageContext) -> None:
        n = item["n"]
        self.tries[n] = self.tries.get(n, 0) + 1
        if self.is_bad(n) and not self.is_repaired:
            raise ValueError(self.message.format(n=n))


def numbers_of(run: AutomationRun) -> list[int]:
    return [one["n"] for one in outputs(run)]


@pytest.mark.parametrize("pipeline", ["asks-at-the-end", "asks-in-one"])
def test_the_run_is_held_with_the_item_and_its_error_and_a_retry_tries_again(pipeline: str):
    faults = Faults(lambda n: n == 3)
    with scripted(faults):
        run = drain(make_run(pipeline, items=5))

        assert status.of(run) == status.PAUSED
        assert not ItemFailure.objects.exists()
        (question,) = answering.open_questions(run.pk)
        assert (question.kind, question.item_key, question.attempts) == ("item", "002", 2)
        assert question.question == "Item 002 has failed 2 times."
        assert question.error == "ValueError: no such page 3"
        assert question.choices == ["retry", "skip", "fail"]
        assert numbers_of(run) == [1, 2]

        answering.answer(run.pk, "retry", actor=OPERATOR)
        assert len(answering.open_questions(drain(run).pk)) == 1
        assert faults.tries[3] == 4

        faults.is_repaired = True
        answering.answer(run.pk, "retry", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert numbers_of(run) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("pipeline", ["asks-at-the-end", "asks-in-one", "several"])
def test_a_skip_gives_the_item_up_without_another_try(pipeline: str):
    faults = Faults(lambda n: n == 3)
    with scripted(faults):
        run = drain(make_run(pipeline, items=5))
        tries = faults.tries[3]
        answering.answer(run.pk, "skip", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert run.failed_items == 1
    assert numbers_of(run) == [1, 2, 4, 5]
    assert faults.tries[3] == tries
    failure = ItemFailure.objects.get()
    assert (failure.key, failure.error, failure.attempts) == ("002", "ValueError: no such page 3", tries)


def test_fail_fails_the_run_with_the_error():
    with scripted(Faults(lambda n: n == 3)):
        run = drain(make_run("asks-at-the-end", items=5))

    run = answering.answer(run.pk, "fail", actor=OPERATOR)

    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == (
        "asks-at-the-end: 002 has failed, and user:olga let the run fail: ValueError: no such page 3"
    )
    assert not RunQuestion.objects.open().exists()


def test_a_skip_of_the_same_error_covers_what_fails_with_it_later_and_nothing_else():
    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] in (2, 4, 6):
            raise ValueError(f"no such page {item['n']} in 'file {item['n']}'")
        if item["n"] == 8:
            raise ValueError("another fault")

    with scripted(script):
        run = drain(make_run("asks-at-the-end", items=12))
        answering.answer(run.pk, "skip", actor=OPERATOR, applies_to="same_error")
        run = drain(run)

        (question,) = answering.open_questions(run.pk)
        assert question.error == "ValueError: another fault"
        answering.answer(run.pk, "skip", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert numbers_of(run) == [1, 3, 5, 7, 9, 10, 11, 12]
    assert RunQuestion.objects.count() == 2


def test_a_skip_of_all_asks_about_no_other_item_but_about_the_limit():
    """More than ``max_failures`` is a question of its own; then the stage continues however many fail."""
    faults = Faults(lambda n: n != 1 and n < 30)
    with scripted(faults):
        run = drain(make_run("asks-at-the-end", items=40))
        answering.answer(run.pk, "skip", actor=OPERATOR, applies_to="all")
        run = settle_until_asked(run)

        (question,) = answering.open_questions(run.pk)
        assert question.kind == "failures"
        assert question.choices == ["skip", "fail"]
        with pytest.raises(InvalidAnswer, match="expected one of skip, fail"):
            answering.answer(run.pk, "retry", actor=OPERATOR)
        answering.answer(run.pk, "skip", actor=OPERATOR)
        run = settle(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert run.failed_items == 28
    assert RunQuestion.objects.count() == 2


def settle_until_asked(run):
    for _ in range(20):
        run = drain(run)
        if run.finished_at is not None or answering.open_questions(run.pk):
            break
        reconciler.reconcile()
    return run


def test_a_retry_is_for_what_is_open_and_not_for_later():
    with scripted(Faults(lambda n: n in (2, 3))):
        run = drain(make_run("several", items=6))
        assert len(answering.open_questions(run.pk)) == 2

        answering.answer(run.pk, "retry", actor=OPERATOR, applies_to="same_error")
        run = drain(run)

        assert answering.open_questions(run.pk)
        assert RunQuestion.objects.filter(answer="retry").count() == 2
        assert numbers_of(run) == [1, 4, 5, 6]


def test_an_answer_for_the_same_error_is_only_for_items():
    with scripted(Faults(lambda n: n == "prepare")):
        run = drain(make_run("asking-hooks", items=3))

    with pytest.raises(InvalidAnswer, match="not about a failed item"):
        answering.answer(run.pk, "retry", actor=OPERATOR, applies_to="same_error")


@pytest.mark.parametrize("hook", ["prepare", "finish"])
def test_a_hook_that_fails_is_tried_again_or_fails_the_run(hook: str):
    faults = Faults(lambda n: n == hook)
    with scripted(faults):
        run = drain(make_run("asking-hooks", items=3))
        (question,) = answering.open_questions(run.pk)
        assert (question.kind, question.choices) == ("hook", ["retry", "fail"])
        faults.is_repaired = True
        answering.answer(run.pk, "retry", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED


def test_loops_that_fail_ask_and_begin_anew(monkeypatch):
    faults = Faults(lambda n: n == "setup")
    with scripted(faults):
        run = drain(make_run("asking-hooks", items=3))
        for number in range(12):
            loop_failures.record(
                stage_of(run), RuntimeError("broken"), worker=f"w{number}", retries=0, has_progressed=False
            )
        (question,) = answering.open_questions(run.pk)
        assert (question.kind, question.choices) == ("loops", ["retry", "fail"])
        faults.is_repaired = True
        answering.answer(run.pk, "retry", actor=OPERATOR)
        run = settle(run)

    assert run.lifecycle == Lifecycle.COMPLETED


def test_an_item_that_waits_too_long_asks(monkeypatch):
    monkeypatch.setattr(asking_pipelines.AsksAtTheEnd, "max_waits", 0)

    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] == 2:
            raise TryLater(5, "busy")

    with scripted(script):
        run = drain(make_run("asks-at-the-end", items=3))
        (question,) = answering.open_questions(run.pk)
        assert question.error.startswith("WaitLimitExceeded: asked to be tried later 1 times, 0 are allowed: busy")
        answering.answer(run.pk, "skip", actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert numbers_of(run) == [1, 3]


def test_an_item_on_which_processes_die_asks_and_its_tries_begin_again():
    with scripted(lambda item, ctx: None):
        run = make_run("asks-at-the-end", items=1)
        work = leased(run)
        WorkSlice.objects.filter(pk=work.slice_id).update(is_alone=True, crashes=2)
        lost = leases.release(work, is_crash=True)
        assert lost is not None
        reconciler.handle_lost_leases([lost])

        (question,) = answering.open_questions(run.pk)
        assert (question.kind, question.item_key, question.attempts) == ("item", "000", 3)
        assert WorkSlice.objects.get(pk=work.slice_id).crashes == 0
        answering.answer(run.pk, "retry", actor=OPERATOR)
        run = settle(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert numbers_of(run) == [1]


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("ValueError: no page 12", "ValueError: no page 7", True),
        ("ValueError: no page 'a b'", "ValueError: no page 'c'", True),
        ("KeyError: 'a'", "ValueError: 'a'", False),
        ("E: at 0x7f12ab", "E: at 0x99", True),
        (
            "E: run 123e4567-e89b-12d3-a456-426614174000 is gone",
            "E: run 923e4567-e89b-12d3-a456-426614174fff is gone",
            True,
        ),
        ("ValueError: no page", "ValueError: no image", False),
    ],
)
def test_errors_are_the_same_but_for_what_varies(one: str, other: str, are_same: bool):
    assert (questions.pattern_of(one) == questions.pattern_of(other)) is are_same


def test_a_declaration_that_makes_no_sense_is_refused():
    class Odd(Stage):
        slug = "odd"
        title = "Odd"
        on_exhausted = "wait"

        def process(self, item, ctx):
            return ()

    class Remote(Stage):
        slug = "remote"
        title = "Remote"
        executor = AGENT
        on_exhausted = "hold"

    for stage, sentence in ((Odd, "expected one of fail, hold, got: 'wait'"), (Remote, "its executor is agent")):
        with pytest.raises(PipelineError, match=sentence):
            register(type("Odder", (Pipeline,), {"slug": "odder", "title": "Odder", "stages": (stage,)}))
