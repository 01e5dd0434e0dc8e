"""Asking and answering race: a run is held if and only if it asks something."""

from __future__ import annotations

import random
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from automation.errors import AutomationError
from automation.models import AutomationRun, RunQuestion
from automation.runs import answering, questions
from automation.runs.questions import Asking, Kind
from pause_manager import holds
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, make_run, stage_of
from tests.support.race import in_thread, race

pytestmark = pytest.mark.django_db(transaction=True)


def ask(run: AutomationRun, key: str) -> bool:
    return questions.ask(stage_of(run), Asking(Kind.QUESTION, f"What about {key}?", key, ("yes", "no")))


def is_held(run: AutomationRun) -> bool:
    return Hold.objects.covering([run.scope]).filter(kind="needs_input").exists()


def asks(run: AutomationRun) -> bool:
    return bool(answering.open_questions(run.pk))


def ask_while_the_last_answer_is_given(run: AutomationRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another loop asks after the answering has seen no open question, and before it has released the hold."""
    ask(run, "1")
    threads: list[Any] = []

    def release_late(*given: Any, **more: Any) -> list[str]:
        threads.append(in_thread(partial(ask, run, "2")))
        time.sleep(1.0)
        return holds.release(*given, **more)

    monkeypatch.setattr(questions, "holds", SimpleNamespace(release=release_late, place=holds.place))
    answering.answer(run.pk, "yes", actor=OPERATOR)
    threads[0].join()


def test_a_question_that_comes_with_the_last_answer_holds_the_run(monkeypatch):
    run = make_run("numbers", items=3)

    ask_while_the_last_answer_is_given(run, monkeypatch)

    assert asks(run)
    assert is_held(run)


def test_without_the_lock_on_the_run_it_would_not(monkeypatch):
    run = make_run("numbers", items=3)
    for module in (questions, answering):
        monkeypatch.setattr(module, "lock_runs", lambda ids: None)

    ask_while_the_last_answer_is_given(run, monkeypatch)

    assert asks(run)
    assert not is_held(run)


def test_two_answers_make_one():
    for _ in range(10):
        run = make_run("numbers", items=3)
        ask(run, "1")

        accepted = race(*[partial(attempt, run, text) for text in ("yes", "no", "yes")])

        assert sorted(accepted) == [False, False, True]
        assert RunQuestion.objects.filter(run=run).count() == 1
        assert not is_held(run)


def attempt(run: AutomationRun, text: str) -> bool:
    try:
        answering.answer(run.pk, text, actor=OPERATOR)
    except AutomationError:
        return False
    return True


def test_many_ask_and_answer_at_once_and_the_hold_tells_whether_anything_is_open():
    run = make_run("numbers", items=3)

    def asker(start: int) -> None:
        for number in range(15):
            ask(run, f"{start}.{number}")
            time.sleep(random.random() / 100)

    def answerer() -> None:
        for _ in range(25):
            for one in answering.open_questions(run.pk)[:2]:
                try:
                    answering.answer(run.pk, "yes", actor=OPERATOR, question_id=one.pk)
                except AutomationError:
                    continue
            time.sleep(random.random() / 100)

    race(*[partial(asker, start) for start in range(3)], answerer, answerer)

    assert is_held(run) is asks(run)
    while asks(run):
        answering.answer(run.pk, "no", actor=OPERATOR, applies_to="all")
    assert not is_held(run)
    assert RunQuestion.objects.filter(run=run, answered_at__isnull=False).count() == 45
