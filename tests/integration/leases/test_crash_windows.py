"""A worker dies between two statements that belong together: what the next one finds must lead to the same end."""

from __future__ import annotations

import pytest

from automation import tasks
from automation.items.units import Failure
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import Lifecycle, Ticket
from automation.runs import reconciler
from tests.support.factories import claim, drain, events, make_run
from tests.support.pipelines import Echo

pytestmark = pytest.mark.django_db(transaction=True)


def test_too_many_failures_fail_the_run_even_if_the_worker_dies_before_it_says_so():
    run = make_run("strict", items=3)
    while work := claim(run):
        failures = [Failure(work.last_key, {}, "bad", 1)]
        checkpoint.commit(work, Progress(cursor=work.last_key, failed=work.size, failures=failures))

    reconciler.reconcile()

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "strict: 3 items failed, at most 2 are allowed"
    assert len(events(run, "fail")) == 1
    assert not events(run, "complete", "stage_completed")


def test_a_late_message_of_a_finished_stage_makes_no_stage(monkeypatch):
    """Making one may mean to load a model, and messages for the last slices often come late."""
    run = drain(make_run("numbers", items=3))
    stage_run = run.stages.get(slug="echo")
    ticket = Ticket.objects.create(stage_run=stage_run, queue="stages")

    def refuse(_: Echo) -> None:
        raise AssertionError("a stage was made")

    monkeypatch.setattr(Echo, "__init__", refuse)
    tasks.stage_loop(stage_run.pk, ticket.pk)

    assert not Ticket.objects.filter(stage_run=stage_run).exists()
