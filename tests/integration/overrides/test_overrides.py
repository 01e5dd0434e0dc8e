"""Values that operators set for a while: what they do, and how they end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from automation import dispatch, leases
from automation.models import AutomationRun, Lane, Ticket
from automation.runs import lanes, lifecycle
from pause_manager import manager, nodes, overrides, resources
from pause_manager.capacity.needs import Needs
from pause_manager.models import ControlEvent, Override, PauseQueueEntry, Resource
from pause_manager.overrides import InvalidOverride, OverrideRefused, OverrideTargetUnknown
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.tasks import expire_holds
from tests.support.factories import OPERATOR, claim, leased, make_run, make_site, tickets
from tests.support.node_factories import make_node
from tests.support.sampled_fleet import node

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def start(kind: str, target: object, value: object, **options: Any) -> Override:
    given = {"expires_in": HOUR, "actor": OPERATOR, "reason": "the launch", **options}
    return overrides.start(kind, str(target), str(value), **given)


def pass_time(override: Override) -> None:
    """Its time is over, by the database's clock."""
    ended = Now() - timedelta(seconds=1)
    Override.objects.filter(pk=override.pk).update(created_at=Now() - 2 * HOUR, expires_at=ended)


def claimed(run: AutomationRun, times: int) -> int:
    """How many of so many claims got a lease."""
    return sum(claim(run, str(number)) is not None for number in range(times))


def threshold(node: str = "n1") -> float | None:
    return {view.name: view.pause_below for view in nodes.live_nodes()}[node]


def state(run: AutomationRun) -> str:
    return str(AutomationRun.objects.get(pk=run.pk).lifecycle)


def of_priority(number: int) -> AutomationRun:
    run = make_run("few", items=3)
    AutomationRun.objects.filter(pk=run.pk).update(priority=number)
    return run


def priority(run: AutomationRun) -> int:
    return AutomationRun.objects.get(pk=run.pk).priority


@pytest.mark.usefixtures("watching")
class TestTheThresholdOfANode:
    def test_is_in_force_and_goes_back_by_the_clock_of_timed_holds(self):
        node("n1", foreign=4)
        nodes.set_threshold("n1", 0.3, actor=OPERATOR)
        assert not manager.should_pause(Needs()).should_pause

        override = start("node_threshold", "n1", "80%")

        assert manager.should_pause(Needs()).should_pause
        expire_holds()
        assert threshold() == 0.8, "its time is not over"
        pass_time(override)
        expire_holds()
        assert threshold() == 0.3
        assert not manager.should_pause(Needs()).should_pause
        override.refresh_from_db()
        assert (override.ended_by, override.outcome) == ("system", "expired: the threshold is 30% again")

    def test_is_audited_once_at_its_start_and_once_at_its_end(self):
        make_node()

        overrides.end(start("node_threshold", "n1", 0.5).pk, actor=OPERATOR, reason="enough")

        told = ControlEvent.objects.filter(scope="node:n1").order_by("pk")
        assert [(event.action, event.actor, event.reason) for event in told] == [
            ("override_set", "user:olga", "the launch"),
            ("override_ended", "user:olga", "enough"),
        ]
        assert told[1].details["outcome"] == "ended by an operator: the threshold is that of the settings again"

    def test_what_somebody_changed_meanwhile_stays(self):
        make_node()
        override = start("node_threshold", "n1", 0.5)
        nodes.set_threshold("n1", 0.1, actor=OPERATOR)

        pass_time(override)
        overrides.expire()

        assert threshold() == 0.1
        override.refresh_from_db()
        assert override.outcome == "expired: the threshold was changed meanwhile, and stays so"

    def test_a_second_override_takes_the_place_of_the_first_and_puts_back_what_was_before_it(self):
        make_node()
        nodes.set_threshold("n1", 0.3, actor=OPERATOR)
        first = start("node_threshold", "n1", 0.5)
        second = start("node_threshold", "n1", 0.7)

        first.refresh_from_db()
        assert first.outcome == "replaced: the threshold is 30% again"
        assert threshold() == 0.7
        overrides.end(second.pk, actor=OPERATOR)
        assert threshold() == 0.3


@pytest.mark.usefixtures("watching")
class TestTheThresholdOfAPipeline:
    def test_is_in_force_for_its_work_alone_and_ends_on_time_though_nobody_ends_it(self):
        node("n1", foreign=4)

        override = start("pipeline_threshold", "few", "80%")

        assert manager.should_pause(Needs(), pipeline="few").should_pause
        assert not manager.should_pause(Needs(), pipeline="chain").should_pause
        pass_time(override)
        assert not manager.should_pause(Needs(), pipeline="few").should_pause
        assert override in Override.objects.active()

    def test_parks_a_run_and_lets_it_go_on_afterwards(self):
        node("n1", foreign=4)
        override = start("pipeline_threshold", "few", "80%")
        run = make_run("few", items=3)
        assert tickets(run) == 0
        assert manager.poll().sent == 0

        overrides.end(override.pk, actor=OPERATOR)

        assert manager.poll().sent == 1


class TestTheConcurrencyOfAStage:
    """Its declaration says two loops."""

    def test_of_a_run_is_obeyed_by_dispatch_and_by_claims(self):
        run = make_run("few", items=9)
        assert tickets(run) == 2

        override = start("stage_concurrency", f"run:{run.pk}/few", 3)

        assert tickets(run) == 3
        work = leased(run)
        assert claimed(run, 4) == 2
        pass_time(override)
        leases.release(work)
        assert claimed(run, 1) == 0, "it has ended, though nobody has ended it"

    def test_of_a_run_wins_over_that_of_its_pipeline_which_later_runs_have_too(self):
        start("stage_concurrency", "pipeline:few/few", 1)
        run, other = make_run("few", items=9), make_run("few", items=9)
        start("stage_concurrency", f"run:{run.pk}/few", 3)

        assert (tickets(run), tickets(other)) == (3, 1)
        assert (claimed(run, 4), claimed(other, 4)) == (3, 1)

    def test_loops_of_a_run_return_when_it_ends(self):
        run = make_run("few", items=9)
        override = start("stage_concurrency", f"run:{run.pk}/few", 1)
        Ticket.objects.all().delete()
        dispatch.dispatch()
        assert tickets(run) == 1

        overrides.end(override.pk, actor=OPERATOR)

        assert tickets(run) == 2


class TestThePriorityOfARun:
    def test_is_written_over_with_that_of_what_waits_for_room_and_put_back(self):
        run = of_priority(4)
        manager.pause_work(
            [WithheldDispatch(run.scope, "automation.go_on", "control", Needs(), priority=4)], reason="full"
        )

        override = start("run_priority", run.pk, 1)

        assert (priority(run), PauseQueueEntry.objects.get(ref=run.scope).priority) == (1, 1)
        pass_time(override)
        overrides.expire()
        assert (priority(run), PauseQueueEntry.objects.get(ref=run.scope).priority) == (4, 4)

    def test_of_a_run_that_has_ended_meanwhile_is_left(self):
        run = of_priority(4)
        override = start("run_priority", run.scope, 1)
        lifecycle.cancel(run.pk, actor=OPERATOR)

        pass_time(override)
        assert overrides.expire() == 1

        assert priority(run) == 1

    def test_is_refused_of_one_that_has_ended(self):
        run = make_run("few", items=3)
        lifecycle.cancel(run.pk, actor=OPERATOR)

        with pytest.raises(OverrideRefused, match="it is cancelled"):
            start("run_priority", run.pk, 1)


class TestTheWidthOfALane:
    def test_lets_more_runs_start_at_once_and_interrupts_none_when_it_ends(self):
        site = make_site("acme")
        Lane.objects.update_or_create(name="acme", defaults={"width": 1})
        runs = [make_run("few", items=3, site=site) for _ in range(3)]
        assert [state(run) for run in runs] == ["running", "pending", "pending"]

        override = start("lane_width", "acme", 2)

        assert [state(run) for run in runs] == ["running", "running", "pending"]
        pass_time(override)
        overrides.expire()
        assert Lane.objects.get(name="acme").width == 1
        lifecycle.cancel(runs[0].pk, actor=OPERATOR)
        assert [state(run) for run in runs] == ["cancelled", "running", "pending"], "one still has a place"

    def test_what_somebody_changed_meanwhile_stays(self):
        make_site("acme")
        override = start("lane_width", "acme", 2)
        lanes.change("acme", width=5, actor=OPERATOR)

        overrides.end(override.pk, actor=OPERATOR)

        assert Lane.objects.get(name="acme").width == 5


class TestTheLimitOfAResource:
    def test_is_in_force_and_goes_back(self):
        resources.set_limits("openai", {"max_at_once": 4}, actor=OPERATOR)

        override = start("resource_max_at_once", "openai", 1)

        assert Resource.objects.get(name="openai").max_at_once == 1
        pass_time(override)
        overrides.expire()
        assert Resource.objects.get(name="openai").max_at_once == 4

    def test_may_be_lifted_for_a_while_and_what_was_changed_meanwhile_stays(self):
        resources.set_limits("openai", {"max_per_minute": 60}, actor=OPERATOR)

        overrides.end(start("resource_max_per_minute", "openai", "none").pk, actor=OPERATOR)
        assert Resource.objects.get(name="openai").max_per_minute == 60

        override = start("resource_max_per_minute", "openai", "none")
        assert Resource.objects.get(name="openai").max_per_minute is None
        resources.set_limits("openai", {"max_per_minute": 5}, actor=OPERATOR)
        overrides.end(override.pk, actor=OPERATOR)
        assert Resource.objects.get(name="openai").max_per_minute == 5


@pytest.mark.parametrize(
    ("kind", "target", "value", "error", "sentence"),
    [
        ("colour", "n1", "1", InvalidOverride, "expected .*node_threshold, .*run_priority"),
        ("node_threshold", "n1", "140%", InvalidOverride, "expected 0% to 100%, or 0 to 1"),
        ("node_threshold", "n1", "none", InvalidOverride, "expected 0% to 100%, or 0 to 1"),
        ("node_threshold", "nowhere", "0.5", OverrideTargetUnknown, "node nowhere: none of that name is known"),
        ("pipeline_threshold", "fwe", "0.5", InvalidOverride, "expected one of: .*few"),
        ("stage_concurrency", "few", "2", InvalidOverride, "expected run:ID/STAGE, or pipeline:SLUG/STAGE"),
        ("stage_concurrency", "pipeline:few/none", "2", OverrideTargetUnknown, "no stage none; it has few"),
        ("stage_concurrency", "pipeline:nothing/x", "2", OverrideTargetUnknown, "there is no pipeline nothing"),
        ("stage_concurrency", "pipeline:few/few", "0", InvalidOverride, "from 1 to 10,000"),
        ("lane_width", "nowhere", "2", OverrideTargetUnknown, "there is no such lane"),
        ("lane_width", "nowhere", "0", InvalidOverride, "from 1 to 10,000"),
        ("resource_max_at_once", "nothing", "2", OverrideTargetUnknown, "nothing uses it"),
        ("resource_max_at_once", "openai", "0", InvalidOverride, "from 1 to 1,000,000, or none"),
        ("run_priority", "n1", "3", InvalidOverride, "expected one run: its id"),
        ("run_priority", "8c2f3a52-0000-4000-8000-000000000000", "3", OverrideTargetUnknown, "there is no such run"),
        ("run_priority", "8c2f3a52-0000-4000-8000-000000000000", "6", InvalidOverride, r"from 1 \(first\) to 5"),
    ],
)
def test_what_is_not_allowed_is_refused_and_leaves_no_trace(kind, target, value, error, sentence):
    make_node()

    with pytest.raises(error, match=sentence):
        start(kind, target, value)

    assert not Override.objects.exists()
    assert not ControlEvent.objects.filter(action="override_set").exists()


def test_one_that_cannot_be_ended_keeps_no_other(caplog: pytest.LogCaptureFixture):
    make_node()
    broken, fine = start("node_threshold", "n1", 0.5), start("pipeline_threshold", "few", 0.5)
    Override.objects.filter(pk=broken.pk).update(previous={"nothing": True})
    pass_time(broken)
    pass_time(fine)

    assert overrides.expire() == 1

    assert set(Override.objects.active()) == {broken}
    assert f"Override {broken.pk} could not be ended; it is tried again." in caplog.text


def test_old_ones_are_forgotten_and_those_in_force_are_not():
    make_node()
    old, present = start("node_threshold", "n1", 0.5), start("pipeline_threshold", "few", 0.5)
    overrides.end(old.pk, actor=OPERATOR)
    Override.objects.filter(pk=old.pk).update(ended_at=Now() - timedelta(days=15))

    assert overrides.forget() == 1

    assert list(Override.objects.all()) == [present]


def test_a_run_is_named_as_everywhere(shell):
    run = make_run("few", items=3)

    told = [
        shell("override", "set", kind, target, "2", "--for", "2h", "--json").objects[0]
        for kind, target in (
            ("run_priority", "latest"),
            ("run_priority", str(run.pk)[:8]),
            ("stage_concurrency", "run:latest/few"),
        )
    ]

    assert [one["target"] for one in told] == [str(run.pk), str(run.pk), f"run:{run.pk}/few"]
    run.refresh_from_db()
    assert run.priority == 2
