"""A stage freezes its lane on a failed check: nothing of the lane starts, and only an operator lifts it."""

from __future__ import annotations

import pytest
from django.db import connection

from automation import gate
from automation.errors import InvalidFreeze, NotFrozen
from automation.models import AutomationRun, ItemFailure, Lifecycle
from automation.pipeline import FreezeLane, Payload
from automation.pipeline.context import StageContext
from automation.reports import status
from automation.runs import freezes, lifecycle, reconciler
from pause_manager import holds
from pause_manager.models import Hold
from tests.support import asking_pipelines
from tests.support.factories import OPERATOR, claim, drain, events, make_run, make_site, outputs, run_loop
from tests.support.pipelines import scripted

assert asking_pipelines
pytestmark = pytest.mark.django_db(transaction=True)


class Check:
    """Fails at these items until it is ``repaired``; remembers what it was asked about."""

    def __init__(self, *numbers: object) -> None:
        self.numbers = numbers
        self.is_repaired = False
        self.seen: list[object] = []

    def __call__(self, item: Payload, ctx: StageContext) -> None:
        self.seen.append(item["n"])
        if item["n"] in self.numbers and not self.is_repaired:
            raise FreezeLane("the totals differ")


def freeze_of(run: AutomationRun) -> Hold | None:
    return freezes.of_lane(run.lane)


@pytest.mark.req("S-26")
def test_a_failed_check_freezes_the_lane_and_the_item_is_tried_again():
    check = Check(4)
    with scripted(check):
        run = drain(make_run("scripted", items=7))

        hold = freeze_of(run)
        assert hold is not None
        assert (hold.actor, hold.reason, hold.mode) == (run.scope, "scripted: the totals differ", "quiesce")
        assert check.seen == [1, 2, 3, 4]
        assert [one["n"] for one in outputs(run)] == [1, 2, 3]
        assert not ItemFailure.objects.exists()
        (reason,) = [one for one in gate.explain(run) if one.keeps]
        assert reason.code == "freeze"
        assert "the totals differ" in reason.sentence
        assert run.pk.hex[:8] in reason.sentence
        assert [event.details["item"] for event in events(run, "froze_lane")] == ["003"]

        check.is_repaired = True
        reconciler.reconcile()
        assert drain(run).lifecycle == Lifecycle.RUNNING
        freezes.unfreeze(run.lane, actor=OPERATOR, reason="the totals are corrected")
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert check.seen == [1, 2, 3, 4, 4, 5, 6, 7]


@pytest.mark.req("S-09")
def test_no_other_run_of_the_lane_starts_or_continues_and_parking_changes_nothing():
    with scripted(Check(1)):
        run = drain(make_run("scripted", items=3))
        other = make_run("numbers", items=3)

        assert status.of(other, has_reasons=not gate.may_start(other)) == status.WAITING
        lifecycle.pause(run.pk, actor=OPERATOR)
        reconciler.reconcile()
        other.refresh_from_db()
        assert other.lifecycle == Lifecycle.PENDING
        assert claim(run) is None


@pytest.mark.req("S-23")
def test_other_lanes_are_not_affected():
    with scripted(Check(1)):
        drain(make_run("scripted", items=3))
        other = drain(make_run("numbers", items=3, site=make_site("elsewhere")))

    assert other.lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("S-26")
def test_nothing_but_an_operator_lifts_it():
    with scripted(Check(1)):
        run = drain(make_run("scripted", items=3))
    lifecycle.pause(run.pk, actor=OPERATOR)
    lifecycle.resume(run.pk, actor=OPERATOR)
    holds.place([f"lane:{run.lane}"], actor=OPERATOR)
    holds.release([f"lane:{run.lane}"], actor=OPERATOR)
    holds.expire()
    reconciler.reconcile()
    lifecycle.cancel(run.pk, actor=OPERATOR)

    assert freeze_of(run) is not None


@pytest.mark.req("S-35")
def test_freezing_twice_keeps_the_first_and_unfreezing_twice_is_refused():
    assert freezes.freeze("acme", actor=OPERATOR, reason="first")
    assert not freezes.freeze("acme", actor=OPERATOR, reason="second")
    hold = freezes.of_lane("acme")
    assert hold is not None
    assert hold.reason == "first"

    freezes.unfreeze("acme", actor=OPERATOR)

    with pytest.raises(NotFrozen, match="it is not frozen"):
        freezes.unfreeze("acme", actor=OPERATOR)
    with pytest.raises(InvalidFreeze, match="expected a reason"):
        freezes.freeze("acme", actor=OPERATOR, reason=" ")


@pytest.mark.parametrize("hook", ["prepare", "setup", "finish"])
def test_a_hook_freezes(hook: str):
    check = Check(hook)
    with scripted(check):
        run = drain(make_run("asking-hooks", items=3))
        assert freeze_of(run) is not None
        check.is_repaired = True
        freezes.unfreeze(run.lane, actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert check.seen.count(hook) >= 2


@pytest.mark.parametrize("pipeline", ["gathered", "several"])
def test_a_group_and_an_async_item_freeze(pipeline: str):
    check = Check(4)
    with scripted(check):
        run = drain(make_run(pipeline, items=9))
        assert freeze_of(run) is not None
        check.is_repaired = True
        freezes.unfreeze(run.lane, actor=OPERATOR)
        run = drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert not ItemFailure.objects.exists()
    made = [one["n"] for one in outputs(run)]
    numbers = [n for group in made for n in group] if pipeline == "gathered" else made
    assert numbers == list(range(1, 10))


def test_a_loop_that_lost_its_slice_freezes_nothing():
    def script(item: Payload, ctx: StageContext) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE automation_workslice SET lease_token = lease_token + 1000 WHERE lease_token > 0")
        raise FreezeLane("mine")

    with scripted(script):
        run = make_run("scripted", items=4)
        run_loop(run)

    assert freeze_of(run) is None


@pytest.mark.parametrize("why", ["", " ", None])
def test_a_freeze_needs_a_reason(why: str):
    with pytest.raises(ValueError, match="expected a reason"):
        FreezeLane(why)
