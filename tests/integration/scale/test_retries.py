"""A retry of very many items is copied in the background, batch by batch, and each batch costs what it copies."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from automation import gate
from automation.errors import TransitionRefused
from automation.models import AutomationRun, WorkItem
from automation.retention import deletion
from automation.runs import failing, lifecycle, reconciler, remainder, retries
from tests.support.factories import OPERATOR, events, everything, make_run, outputs, run_loop, settle
from tests.support.pipelines import scripted
from tests.support.query_plans import Explainer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def few(monkeypatch: Any) -> None:
    monkeypatch.setattr(remainder, "BATCH", 7)
    monkeypatch.setattr(remainder, "SLICES", 3)
    monkeypatch.setattr(retries, "COPIED_AT_ONCE", 5)


def half_done(items: int = 60) -> AutomationRun:
    """A failed run with slices of 5, some done, one begun, the others not."""
    run = make_run("scripted", items=items)

    def stop(item: Any, ctx: Any) -> None:
        if item["n"] == 13:
            failing.fail(run.pk, reason="for the test")

    with scripted(stop):
        while run.lifecycle == "running":  # a loop may make room for another run that waits
            run_loop(run)
            run.refresh_from_db()
    assert run.lifecycle == "failed"
    return run


def test_it_waits_until_all_is_there_says_so_and_does_exactly_the_rest(few):
    old = half_done()
    done = {payload["n"] for payload in outputs(old)}
    new = retries.retry_failed(old.pk, actor=OPERATOR)

    assert 0 < new.total_items < 60 - len(done)
    assert (new.lifecycle, new.start_requested_at is not None) == ("pending", True)
    [reason] = gate.explain(new)
    assert reason.code == "copying"
    assert reason.sentence == f"Its items are still being copied from run {old.pk}: {new.total_items} so far."
    reconciler.reconcile()
    new.refresh_from_db()
    assert new.lifecycle == "pending"
    with pytest.raises(TransitionRefused, match=f"are being copied to run {new.pk}"):
        deletion.delete(old.pk, actor=OPERATOR)

    assert retries.copy_remaining() == 1
    new.refresh_from_db()
    assert (new.lifecycle, new.total_items, new.copying) == ("running", 60 - len(done), None)
    assert new.stages.get(slug="input").total_items == new.total_items
    assert [event.action for event in events(new)][:3] == ["create", "start_requested", "prepared"]
    with scripted(lambda item, ctx: None):
        settle(new)
    assert {payload["n"] for payload in outputs(new)} == set(range(1, 61)) - done


def test_broken_off_anywhere_it_copies_each_item_once(few):
    old = half_done()
    new = retries.retry_failed(old.pk, actor=OPERATOR)

    steps = 0
    while AutomationRun.objects.filter(pk=new.pk, copying__isnull=False).exists():
        retries.copy_remaining(seconds=0.000_001)
        steps += 1
    copied = WorkItem.objects.filter(made_by__run=new)

    assert steps > 3
    assert copied.count() == AutomationRun.objects.get(pk=new.pk).total_items
    assert copied.count() == 60 - len(everything(old)["scripted"])


def test_one_that_is_cancelled_meanwhile_is_left_alone(few):
    old = half_done()
    new = retries.retry_failed(old.pk, actor=OPERATOR)
    had = WorkItem.objects.filter(made_by__run=new).count()

    lifecycle.cancel(new.pk, actor=OPERATOR)

    assert retries.copy_remaining() == 0
    new.refresh_from_db()
    assert (new.lifecycle, new.copying) == ("cancelled", None)
    assert WorkItem.objects.filter(made_by__run=new).count() == had


@pytest.mark.slow
def test_a_batch_looks_at_what_it_copies_however_many_slices_are_open(monkeypatch):
    """It was items times open slices: four times the time for twice the items."""
    monkeypatch.setattr(retries, "COPIED_AT_ONCE", 1)
    looked_at = []
    for items in (600, 1_200):
        old = half_done(items)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE automation_workslice, automation_workitem, automation_stagerun")
        explained = Explainer(("automation_workslice", "automation_workitem"))
        with explained.of("copy"):
            retries.retry_failed(old.pk, actor=OPERATOR)
            retries.copy_remaining()
        looked_at.append(sum(step.rows for step in explained.steps))

    assert looked_at[1] < 2.5 * looked_at[0]
