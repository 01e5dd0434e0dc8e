"""Holds that end by themselves, each with the action that was chosen for its end."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from automation.models import AutomationRun, Lifecycle
from automation.reports import status
from pause_manager import holds
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, claim, drain, events, make_run, tickets

pytestmark = pytest.mark.django_db(transaction=True)


def hold(scope: str, on_expiry: str, *, is_over: bool = True, kind: str = "operator") -> None:
    ends = timezone.now() + timedelta(minutes=-1 if is_over else 1)
    holds.place([scope], kind=kind, actor=OPERATOR, reason="until noon", expires_at=ends, on_expiry=on_expiry)


def test_a_hold_that_ends_with_resume_lets_the_run_go_on():
    run = make_run("few", items=3)
    hold(run.scope, Hold.OnExpiry.RESUME)
    drain(run)
    assert claim(run) is None

    assert holds.expire() == 1

    run.refresh_from_db()
    assert run.paused_at is None
    [released] = events(run, "hold_released")
    assert (released.actor, released.reason) == ("system", "expired")
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def test_a_hold_that_ends_with_cancel_ends_the_run():
    run = make_run("few", items=3)
    hold(run.scope, Hold.OnExpiry.CANCEL)

    assert holds.expire() == 1

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED
    assert not Hold.objects.active().exists()
    assert len(events(run, "cancel")) == len(events(run, "hold_released")) == 1


def test_a_hold_that_ends_with_keep_stays_and_tells():
    run = make_run("few", items=3)
    hold(run.scope, Hold.OnExpiry.KEEP)

    assert [holds.expire() for _ in range(3)] == [1, 0, 0]

    assert status.of(AutomationRun.objects.get(pk=run.pk)) == "paused"
    assert len(events(run, "hold_overdue")) == 1
    assert claim(run) is None


def test_a_hold_whose_time_has_not_come_is_left_alone():
    run = make_run("few", items=3)
    hold(run.scope, Hold.OnExpiry.RESUME, is_over=False)

    assert holds.expire() == 0
    assert claim(run) is None


def test_the_end_of_one_hold_leaves_another_in_force():
    """Invariant 4."""
    run = make_run("few", items=3)
    hold(run.scope, Hold.OnExpiry.RESUME, kind="capacity")
    holds.place([run.scope], actor=OPERATOR)

    holds.expire()

    assert status.of(AutomationRun.objects.get(pk=run.pk)) == "paused"
    assert [one.kind for one in Hold.objects.active()] == ["operator"]
    drain(run)
    assert tickets(run) == 0


def test_a_hold_that_cannot_end_as_told_does_not_keep_the_others():
    hold(f"run:{uuid4()}", Hold.OnExpiry.CANCEL)
    hold("run:no-such-id", Hold.OnExpiry.CANCEL)
    run = make_run("few", items=3)
    hold(run.scope, Hold.OnExpiry.RESUME)

    assert holds.expire() == 3

    assert not Hold.objects.active().exists()
