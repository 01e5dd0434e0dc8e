"""Lists, the metric and the gate agree on which runs something keeps while nobody works on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from automation import gate, gauges
from automation.api.runs.filters import by_status
from automation.management.run_command import facts_of
from automation.models import AutomationRun, Lane, Lifecycle
from automation.reports import progress, status
from automation.runs import lifecycle
from pause_manager import holds, resources
from pause_manager.models import WorkerNode
from tests.support import provider_pipelines
from tests.support.factories import OPERATOR, claim, make_run, make_site
from tests.support.lane_runs import in_lane, make_lane
from tests.support.node_factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)
assert provider_pipelines


def hold(*scopes: str) -> None:
    holds.place(scopes, actor=OPERATOR, reason="disks")


def queue_of(run: AutomationRun) -> str:
    definition: Any = run.stages.get(position=0).definition
    return str(definition["queue"])


def lane_is_full(run: AutomationRun) -> None:
    AutomationRun.objects.filter(pk=run.pk).update(lane=make_lane().slug)
    run.refresh_from_db()
    Lane.objects.filter(name=run.lane).update(width=1)
    first = make_run(site=make_site(), items=1)
    AutomationRun.objects.filter(pk=first.pk).update(lane=run.lane)


def every_node_is_held(run: AutomationRun) -> None:
    make_node("here")
    WorkerNode.objects.exclude(name="here").delete()
    hold("node:here")


def one_of_two_nodes_is_held(run: AutomationRun) -> None:
    make_node("here")
    make_node("there")
    hold("node:here")


def has_no_code(run: AutomationRun) -> None:
    AutomationRun.objects.filter(pk=run.pk).update(pipeline="gone")


def another_has_its_place(run: AutomationRun) -> None:
    make_run(items=1)
    AutomationRun.objects.filter(pk=run.pk).update(lane_seat_at=None)
    Lane.objects.filter(name=run.lane).update(width=1)


def resource_is_full(run: AutomationRun) -> None:
    resources.set_limits("provider", {"max_at_once": 1}, actor=OPERATOR)
    claim(make_run("ask", items=1))


def resource_has_room(run: AutomationRun) -> None:
    resources.set_limits("provider", {"max_at_once": 2}, actor=OPERATOR)
    claim(make_run("ask", items=1))


def is_copied(run: AutomationRun) -> None:
    AutomationRun.objects.filter(pk=run.pk).update(copying="failed")


KEEPERS: dict[str, tuple[Callable[[AutomationRun], object], bool]] = {
    "nothing": (lambda run: None, False),
    "fleet": (lambda run: hold("fleet"), True),
    "pipeline": (lambda run: hold(f"pipeline:{run.pipeline}"), True),
    "another pipeline": (lambda run: hold("pipeline:other"), False),
    "lane": (lambda run: hold(f"lane:{run.lane}"), True),
    "queue": (lambda run: hold(f"queue:{queue_of(run)}"), True),
    "a full lane": (lane_is_full, True),
    "all nodes": (every_node_is_held, True),
    "a node": (one_of_two_nodes_is_held, False),
    "code": (has_no_code, True),
    "copying": (is_copied, True),
}


STARTED_KEEPERS: dict[str, tuple[Callable[[AutomationRun], object], bool]] = {
    **{name: KEEPERS[name] for name in KEEPERS if name not in ("a full lane", "copying")},
    "a full lane": (another_has_its_place, True),
    "a freeze": (lambda run: holds.place([f"lane:{run.lane}"], kind="freeze", actor=OPERATOR, reason="check"), True),
    "a held resource": (lambda run: hold("resource:provider"), True),
    "a resource without a place": (resource_is_full, True),
    "a resource with a place": (resource_has_room, False),
}


def filtered(wanted: str) -> set[Any]:
    return set(by_status(AutomationRun.objects.with_leases(), wanted).values_list("pk", flat=True))


def counted() -> dict[tuple[str, str], float]:
    runs, _ = gauges._runs()
    return {(one.labels["status"], one.labels["pipeline"]): one.value for one in runs.samples if one.value}


@pytest.mark.parametrize("name", KEEPERS)
def test_lists_the_metric_and_the_gate_agree(name: str):
    keep, is_kept = KEEPERS[name]
    run = make_run(items=1, start=False)

    keep(run)

    now = AutomationRun.objects.get(pk=run.pk)
    assert now.lifecycle == Lifecycle.PENDING
    assert gate.may_start(now) is not is_kept
    assert gate.blocked([now]) == ({run.pk} if is_kept else set())
    assert (run.pk in filtered(status.WAITING), run.pk in filtered(Lifecycle.PENDING)) == (is_kept, not is_kept)
    assert counted().get((status.WAITING if is_kept else Lifecycle.PENDING, now.pipeline)) == 1


@pytest.mark.parametrize("name", STARTED_KEEPERS)
def test_all_agree_on_a_run_that_has_started_and_that_nobody_works_on(name: str):
    keep, is_kept = STARTED_KEEPERS[name]
    run = make_run("ask", items=4)

    keep(run)

    now = AutomationRun.objects.with_leases().get(pk=run.pk)
    expected = status.WAITING if is_kept else Lifecycle.RUNNING
    assert now.lifecycle == Lifecycle.RUNNING
    assert gate.may_start(now) is not is_kept
    assert (run.pk in gate.blocked([now])) == is_kept
    assert status.of(now) == status.of_each([now])[run.pk] == expected
    assert (run.pk in filtered(status.WAITING), run.pk in filtered(Lifecycle.RUNNING)) == (is_kept, not is_kept)
    assert counted().get((expected, now.pipeline), 0) >= 1


def test_a_run_that_a_worker_is_on_is_running_and_never_waiting():
    run = make_run("ask", items=4)
    assert claim(run) is not None

    hold("fleet")

    assert status.of(AutomationRun.objects.get(pk=run.pk)) == Lifecycle.RUNNING
    assert (filtered(status.WAITING), filtered(Lifecycle.RUNNING)) == (set(), {run.pk})
    assert counted() == {(Lifecycle.RUNNING, "ask"): 1}


def test_a_resumed_run_waits_for_its_lane_until_the_other_has_ended():
    site = make_lane(policy=Lane.Policy.SKIP_PARKED)
    first, urgent = in_lane(site, 2)
    lifecycle.pause(first.pk, actor=OPERATOR)
    assert status.of(first) == status.PAUSED

    resumed = lifecycle.resume(first.pk, actor=OPERATOR)

    assert (resumed.lifecycle, status.of(resumed), status.of(urgent)) == ("running", "waiting", "running")
    assert facts_of(resumed)["status"] == "waiting"
    told = progress.snapshot(resumed)
    assert (told["status"], told["stages"][0]["status"]) == ("waiting", "waiting")
    assert filtered(status.WAITING) == {first.pk}
    lifecycle.cancel(urgent.pk, actor=OPERATOR)
    assert (status.of(first), filtered(status.WAITING)) == ("running", set())


def test_a_run_that_waits_for_its_lane_is_listed_as_waiting():
    site = make_lane()
    first, second = in_lane(site, 2)

    assert gate.blocked(AutomationRun.objects.filter(pk=second.pk)) == {second.pk}
    assert filtered(status.WAITING) == {second.pk}
    assert counted()[status.WAITING, second.pipeline] == 1
    assert first.pk not in filtered(status.WAITING)


def test_a_run_that_waits_for_another_is_listed_as_waiting():
    first = make_run(items=1)
    last = make_run(items=1, after=[first.pk])

    assert gate.blocked([last]) == {last.pk}
    assert filtered(status.WAITING) == {last.pk}
