"""In every state of a lane may_start, those who give places, the claim and the queue that people see agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from automation import gate, leases
from automation.gate import pending
from automation.models import AutomationRun, Lane, Lifecycle, RunDependency
from automation.reports import lane_queue
from automation.runs import advancing, lanes
from pause_manager import holds
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, make_run, make_site, worker
from tests.support.lane_runs import again

pytestmark = pytest.mark.django_db(transaction=True)

MOST = 4
RUN = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["asked", "asked", "not asked", "has a place", "resumed"]),
        "priority": st.sampled_from([2, 3]),
        "lane_order": st.sampled_from([0, 0, 1]),
        "is_paused": st.sampled_from([False, False, True]),
        "is_cancelled": st.sampled_from([False, False, False, True]),
        "after": st.sampled_from([None, None, None, 0, 1, 2, 3]),
        "is_met": st.booleans(),
    }
)
STATE = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(Lane.Policy.values),
        "width": st.integers(1, 3),
        "held": st.sampled_from([None, None, None, ("lane:acme", "freeze"), ("pipeline:few", "operator")]),
        "runs": st.lists(RUN, min_size=1, max_size=MOST),
    }
)
PLAIN = {
    "state": "asked",
    "priority": 3,
    "lane_order": 0,
    "is_paused": False,
    "is_cancelled": False,
    "after": None,
    "is_met": False,
}


@pytest.fixture
def runs() -> list[AutomationRun]:
    site = make_site("acme")
    return [make_run("few", items=2, site=site, start=False) for _ in range(MOST)]


@contextmanager
def taken_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def put(state: dict[str, Any], runs: list[AutomationRun]) -> list[AutomationRun]:
    """Bring the lane into ``state``; what it does not name is gone from it."""
    Lane.objects.filter(name="acme").update(policy=state["policy"], width=state["width"])
    AutomationRun.objects.filter(pk__in=[run.pk for run in runs[len(state["runs"]) :]]).update(lane="elsewhere")
    named = runs[: len(state["runs"])]
    for run, of in zip(named, state["runs"], strict=True):
        if of["state"] in ("has a place", "resumed"):
            Lane.objects.filter(name="acme").update(width=MOST)
            AutomationRun.objects.filter(pk=run.pk).update(start_requested_at=Now())
            assert advancing.begin(again(run), actor=OPERATOR)
    for run, of in zip(named, state["runs"], strict=True):
        leaves = of["is_paused"] and state["policy"] == Lane.Policy.SKIP_PARKED
        changes: dict[str, Any] = {
            "priority": of["priority"],
            "lane_order": of["lane_order"],
            "start_requested_at": None if of["state"] == "not asked" else Now(),
            "lane_seat_at": Now() if of["state"] == "has a place" and not leaves else None,
            "cancel_requested_at": Now() if of["is_cancelled"] else None,
        }
        AutomationRun.objects.filter(pk=run.pk).update(**changes)
        others = [other for number, other in enumerate(named) if number == of["after"] and other != run]
        if others and again(run).lifecycle == Lifecycle.PENDING:
            met = Now() if of["is_met"] else None
            RunDependency.objects.create(run=run, after=others[0], satisfied_at=met)
        if of["is_paused"]:
            holds.place([run.scope], actor=OPERATOR)
    if state["held"] is not None:
        scope, kind = state["held"]
        holds.place([scope], kind=kind, actor=OPERATOR, reason="a check failed")
    Lane.objects.filter(name="acme").update(width=state["width"])
    return named


def would_work(run: AutomationRun) -> bool:
    """Whether it starts if it is asked for, or a slice of it can be leased, once free places are given."""
    with taken_back():
        AutomationRun.objects.filter(pk=run.pk, lifecycle=Lifecycle.PENDING).update(start_requested_at=Now())
        lanes.fill("acme")
        now = again(run)
        if run.lifecycle == Lifecycle.PENDING:
            return now.lifecycle == Lifecycle.RUNNING
        stage_run = now.stages.get(position=0)
        return leases.claim(stage_run.pk, worker()) is not None


def is_overfull(runs: list[AutomationRun], width: int) -> bool:
    return AutomationRun.objects.filter(pk__in=[run.pk for run in runs], lane_seat_at__isnull=False).count() > width


@pytest.mark.req("S-14")
@pytest.mark.req("S-25")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(STATE)
@example({"policy": "strict", "width": 1, "held": None, "runs": [PLAIN, PLAIN]})
@example({"policy": "skip_parked", "width": 1, "held": None, "runs": [{**PLAIN, "is_paused": True}, PLAIN]})
@example({"policy": "strict", "width": 1, "held": None, "runs": [{**PLAIN, "is_paused": True}, PLAIN]})
@example({"policy": "strict", "width": 1, "held": None, "runs": [{**PLAIN, "after": 1}, PLAIN]})
@example({"policy": "strict", "width": 2, "held": None, "runs": [{**PLAIN, "state": "resumed"}, PLAIN, PLAIN]})
def test_all_who_judge_a_lane_agree(runs, state):
    check_agreement(runs, state)


@pytest.mark.slow
@pytest.mark.req("S-14")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(STATE)
def test_all_who_judge_a_lane_agree_in_many_states(runs, state):
    check_agreement(runs, state)


def check_agreement(runs, state) -> None:
    with taken_back():
        named = [again(run) for run in put(state, runs)]

        told = {one.run.pk: one.reasons for one in lane_queue.of(Lane.objects.get(name="acme")).waiting}
        blocked = gate.blocked(named)
        kept = set(AutomationRun.objects.filter(pk__in=pending.kept_ids()).values_list("pk", flat=True))

        for run in named:
            may_start = gate.may_start(run)
            if run.cancel_requested_at is None:
                assert may_start == would_work(run), (run.pk, [one.sentence for one in gate.explain(run)])
                assert (run.pk in kept) == (not may_start), (run.pk, [one.sentence for one in gate.explain(run)])
            assert (run.pk in blocked) == (not may_start)
            if run.pk in told:
                assert (told[run.pk] == []) == may_start
            reasons = [one.code for one in gate.explain(run)]
            assert gate.lane_has_active_run(run.pk) == ("lane" in reasons)


def test_a_lane_with_more_at_work_than_its_width_gives_no_place(runs):
    Lane.objects.filter(name="acme").update(width=MOST)
    for run in runs[:2]:
        AutomationRun.objects.filter(pk=run.pk).update(start_requested_at=Now())
        assert advancing.begin(again(run), actor=OPERATOR)
    Lane.objects.filter(name="acme").update(width=1)

    assert is_overfull(runs, 1)
    assert not gate.may_start(again(runs[2]))
    assert Hold.objects.count() == 0
