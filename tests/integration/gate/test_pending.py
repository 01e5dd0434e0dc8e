"""Lists, the metric and the gate agree on which pending runs something keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from automation import gate, gauges
from automation.api.runs.filters import by_status
from automation.models import AutomationRun, Lane, Lifecycle
from automation.reports import status
from pause_manager import holds
from pause_manager.models import WorkerNode
from tests.support.factories import OPERATOR, make_run, make_site
from tests.support.lane_runs import in_lane, make_lane
from tests.support.node_factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)


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
