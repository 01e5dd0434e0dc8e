"""A question outlives the worker that asked it, and its answer the worker that took it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from automation.models import AutomationRun, Lifecycle, RunQuestion
from automation.reports import status
from automation.runs import answering, creation, reconciler
from tests.browser import asking_app
from tests.browser.asking_app import pipelines
from tests.support.factories import OPERATOR, make_site, outputs
from tests.support.workers import Workers, eventually

assert pipelines
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    running = Workers(tmp_path, {**process_env, "SLACKWATER_APPS": asking_app.__name__})
    try:
        yield running
    finally:
        running.close()


def is_asking(run: AutomationRun, words: str) -> bool:
    reconciler.reap()
    reconciler.reconcile()
    return any(words in one.question for one in answering.open_questions(run.pk))


def ended(run: AutomationRun) -> bool:
    reconciler.reap()
    reconciler.reconcile()
    run.refresh_from_db()
    return run.finished_at is not None


@pytest.mark.req("S-30")
def test_workers_are_killed_before_and_after_each_answer(workers: Workers) -> None:
    run = creation.create("publishing", site=make_site(), actor=OPERATOR, items=[{"n": n} for n in range(1, 5)])

    for words, answer in (("Publish it?", "Leave it out"), ("Which colour", "blue"), ("has failed once", "skip")):
        workers.start(answer.replace(" ", "-"), "-Q", "stages", "-c", "1")
        assert eventually(lambda words=words: is_asking(run, words), 60), workers.said(answer.replace(" ", "-"))[-2000:]  # type: ignore[misc]
        workers.kill(answer.replace(" ", "-"))
        assert status.of(run) in (status.PAUSED, status.PAUSING)
        (question,) = [one for one in answering.open_questions(run.pk) if words in one.question]
        answering.answer(run.pk, answer, actor=OPERATOR, question_id=question.pk)
    workers.start("last", "-Q", "stages", "-c", "1")
    assert eventually(lambda: ended(run), 60), workers.said("last")[-2000:]
    run.refresh_from_db()

    assert run.lifecycle == Lifecycle.COMPLETED
    assert run.failed_items == 1
    assert [(one["n"], one["answer"]) for one in outputs(run)] == [(1, "Leave it out"), (2, "blue"), (4, "")]
    assert RunQuestion.objects.count() == 3
