"""Each layer of the gate fails alone, for real: claims, explanations, snapshots and lists give the same answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.db import DatabaseError, connection

from automation import dispatch, gate, leases
from automation.agents import explanation as of_agent
from automation.agents import protocol
from automation.api.runs.filters import by_status
from automation.dispatch import admission
from automation.models import Agent, AutomationRun, Lane, Lifecycle, RunDependency, StageRun, Standstill, WorkSlice
from automation.pipeline import definition, registry
from automation.reports import lane_queue, progress, progress_notifier, status
from automation.runs import reconciler
from pause_manager.models import ControlState, FleetWorker, Hold, Override, Resource, WorkerNode
from pause_manager.nodes import members
from pause_manager.observability.gate_health import Layer
from tests.support import provider_pipelines
from tests.support.agent_calls import make_agent
from tests.support.factories import claim, drain, make_run, outputs, stage_of, worker
from tests.support.lane_runs import again, in_lane, make_lane
from tests.support.node_factories import make_node
from tests.support.scrape import renamed

pytestmark = pytest.mark.django_db(transaction=True)
assert provider_pipelines

Judge = Callable[[AutomationRun], bool]


def table(model: Any) -> str:
    return str(model._meta.db_table)


@contextmanager
def without(name: str, column: str) -> Iterator[None]:
    """Meanwhile the table has no such column."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME COLUMN {column} TO gone")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE {name} RENAME COLUMN gone TO {column}")


class _Broken(type):
    """Its classes cannot tell their stages: as one whose import of a model fails late."""

    @property
    def stages(cls) -> tuple[()]:
        raise RuntimeError("the stages of a pipeline of this release cannot be told")


@contextmanager
def code_that_cannot_be_told() -> Iterator[None]:
    """Meanwhile a pipeline of this release raises when it is asked for its stages."""

    class Bad(metaclass=_Broken):
        slug, title, formerly, uses_files = "bad", "Bad", (), False
        abstract: ClassVar[bool] = True

    registry._registry["bad"] = Bad  # type: ignore[assignment]
    try:
        yield
    finally:
        del registry._registry["bad"]


@contextmanager
def delay_that_is_no_number() -> Iterator[None]:
    """Meanwhile the rows of stages, which had a batch, say that batches are "soon" apart."""
    before = dict(StageRun.objects.filter(position=0).values_list("pk", "definition"))
    for pk, declared in before.items():
        batch = WorkSlice.objects.filter(stage_run=pk).values("pk")[:1]
        StageRun.objects.filter(pk=pk).update(definition={**(declared or {}), "batch_delay": "soon"}, batch_id=batch)
    try:
        yield
    finally:
        for pk, declared in before.items():
            StageRun.objects.filter(pk=pk).update(definition=declared, batch_id=None)


# Who judges: whether work of the run would start.


def claims(run: AutomationRun) -> bool:
    try:
        work = claim(run)
    except (DatabaseError, RuntimeError):
        return False
    if work is not None:
        leases.release(work)
    return work is not None


def dispatches(run: AutomationRun) -> bool:
    run.stages.get(position=0).tickets.all().delete()
    try:
        return dispatch.dispatch([stage_of(run).pk]) > 0
    except (DatabaseError, RuntimeError):
        return False


def explains(run: AutomationRun) -> bool:
    return gate.may_proceed(gate.explain(again(run)))


def lists(run: AutomationRun) -> bool:
    """As a row of a list, by the filter of a list."""
    is_kept = gate.blocked([again(run)]) == {run.pk}
    found = by_status(AutomationRun.objects.with_leases(), status.WAITING).filter(pk=run.pk).exists()
    assert is_kept == found
    return not is_kept


def is_shown(run: AutomationRun) -> bool:
    """As a row of a list."""
    return gate.blocked([again(run)]) == set()


def snapshot(run: AutomationRun) -> bool:
    return bool(progress.snapshot(again(run))["status"] != status.WAITING)


def queue(run: AutomationRun) -> bool:
    """In the queue of its lane."""
    lane = Lane(name=run.lane, width=1)
    told = {one.run.pk: one.reasons for one in lane_queue.of(lane).waiting}
    return told[run.pk] == []


def starts(run: AutomationRun) -> bool:
    """Of one that has not started: the reconciler starts it."""
    reconciler.reconcile()
    return again(run).lifecycle == Lifecycle.RUNNING


AT_WORK: tuple[Judge, ...] = (explains, lists, snapshot, claims, dispatches)
TO_START: tuple[Judge, ...] = (explains, lists, snapshot, queue, starts)


def using(pipeline: str = "ask") -> AutomationRun:
    make_node("node-1")
    return make_run(pipeline, items=9)


def filing() -> AutomationRun:
    run = make_run("ask", items=9)
    AutomationRun.objects.filter(pk=run.pk).update(storage="here")
    members.acknowledge("w1", node="n1", queues=["stages"], version=0)
    FleetWorker.objects.update(files={"id": "here", "place": "file:/here", "name": "/here"})
    return again(run)


def second_of_a_lane() -> AutomationRun:
    return in_lane(make_lane("acme", policy="skip_parked"), 2)[1]


def alone_in_a_lane() -> AutomationRun:
    """It waits for nothing but its start, which nobody has tried."""
    run = in_lane(make_lane("acme"), after=[])[0]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_stagerun SET lifecycle = 'pending', total_items = NULL, started_at = NULL "
            "WHERE run_id = %s AND position = 0",
            [run.pk],
        )
        cursor.execute(
            "DELETE FROM automation_workslice WHERE stage_run_id IN "
            "(SELECT id FROM automation_stagerun WHERE run_id = %s)",
            [run.pk],
        )
    AutomationRun.objects.filter(pk=run.pk).update(lifecycle="pending", started_at=None, lane_seat_at=None)
    return again(run)


Fault = Callable[[], AbstractContextManager[None]]

RUNS: dict[Layer, tuple[Callable[[], AutomationRun], Fault, tuple[Judge, ...]]] = {
    Layer.HOLDS: (using, partial(renamed, table(Hold)), AT_WORK),
    Layer.NODE: (using, partial(renamed, table(WorkerNode)), AT_WORK),
    Layer.CODE: (using, code_that_cannot_be_told, AT_WORK),
    Layer.FILES: (filing, partial(without, table(FleetWorker), "files"), AT_WORK),
    Layer.RESOURCES: (using, partial(renamed, table(Resource)), AT_WORK),
    Layer.OVERRIDES: (using, partial(renamed, table(Override)), AT_WORK),
    Layer.DELAYS: (using, delay_that_is_no_number, (explains, is_shown, snapshot, claims, dispatches)),
    Layer.DEPENDENCY: (alone_in_a_lane, partial(renamed, table(RunDependency)), TO_START),
    Layer.LANE: (second_of_a_lane, partial(renamed, table(Lane)), TO_START),
}
"""Layers that keep a run: the run, what is broken, and who judges."""


@pytest.mark.req("S-15")
@pytest.mark.req("S-16")
@pytest.mark.req("S-17")
@pytest.mark.req("S-33")
@pytest.mark.parametrize("layer", RUNS)
def test_all_who_judge_a_run_agree_when_a_layer_fails_alone(layer: Layer):
    make, fault, judges = RUNS[layer]
    run = make()

    with fault():
        answers = {judge.__name__: judge(run) for judge in judges}

    assert answers == {judge.__name__: layer.is_open for judge in judges}
    if starts not in judges:
        assert {judge.__name__: judge(run) for judge in judges} == {judge.__name__: True for judge in judges}


@pytest.mark.parametrize("layer", [layer for layer in RUNS if not layer.is_open])
def test_the_layer_that_failed_is_counted_and_named(layer: Layer, scrape):
    make, fault, _ = RUNS[layer]
    run = make()

    with fault():
        reasons = [one for one in gate.explain(again(run)) if one.code == "unreadable"]
        is_shown(run)

    assert any(one.keeps and "cannot be read (" in one.sentence for one in reasons)
    assert (scrape().value("slackwater_gate_degradations_total", layer=layer) or 0) >= 1


def a_claim_that_asks_for_room() -> tuple[Fault, Callable[[], bool]]:
    make_node("node-1", cores=8.0)
    run = make_run(items=3)
    stage = stage_of(run)
    room = partial(admission.room_here, needs=definition.of(stage).needs, pipeline=run.pipeline)

    def starts() -> bool:
        try:
            return leases.claim(stage.pk, worker(), room=room) is not None
        except DatabaseError:
            return False

    return partial(without, table(WorkerNode), "policy_state"), starts


def a_claim_of_an_agent() -> tuple[Fault, Callable[[], bool]]:
    make_run("remote", items=3)
    agents_row, _ = make_agent()

    def starts() -> bool:
        agent = Agent.objects.get(pk=agents_row.pk)
        explained = of_agent.explain(agent)
        got = protocol.claim(agent)["job"] is not None
        assert got == explained.may_start
        return got

    return partial(renamed, table(ControlState)), starts


def a_claim_in_one_statement() -> tuple[Fault, Callable[[], bool]]:
    make_node("node-1")
    run = make_run(items=3)

    def starts() -> bool:
        return claims(run) or dispatches(run)

    return partial(renamed, table(Standstill)), starts


def a_whole_run() -> Callable[[], bool]:
    run = make_run(items=3)

    def starts() -> bool:
        drain(run)
        return (again(run).lifecycle, len(outputs(run))) == (Lifecycle.COMPLETED, 3)

    return starts


@contextmanager
def redis_away(settings: Any) -> Iterator[None]:
    before = settings.PAUSE_MANAGER
    settings.PAUSE_MANAGER = {**before, "redis_url": "redis://127.0.0.1:9/0"}
    progress_notifier.publisher.away_until = 0.0
    try:
        yield
    finally:
        settings.PAUSE_MANAGER = before
        progress_notifier.publisher.away_until = 0.0


OTHERS: dict[Layer, Callable[[Any], tuple[Fault, Callable[[], bool]]]] = {
    Layer.CAPACITY: lambda settings: a_claim_that_asks_for_room(),
    Layer.FLEET: lambda settings: a_claim_of_an_agent(),
    Layer.GATE: lambda settings: a_claim_in_one_statement(),
    Layer.PROGRESS: lambda settings: (partial(redis_away, settings), a_whole_run()),
    Layer.TELEMETRY: lambda settings: (partial(without, table(Hold), "work_resumed_at"), a_whole_run()),
}
"""Layers that no run is asked about: what is broken, and whether work starts."""


@pytest.mark.parametrize("layer", OTHERS)
def test_what_starts_work_obeys_a_layer_that_fails_alone(layer: Layer, settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": layer == Layer.CAPACITY}
    fault, starts = OTHERS[layer](settings)

    with fault():
        has_started = starts()

    assert has_started is layer.is_open
    assert layer.is_open or not WorkSlice.objects.leased().exists()
    assert starts(), "the layer can be read again"


def test_every_layer_is_made_to_fail():
    assert set(RUNS) | set(OTHERS) == set(Layer)


def test_the_page_of_operation_has_every_layer_and_what_follows():
    page = (Path(__file__).parents[3] / "docs" / "operations" / "observability.md").read_text()

    told = re.findall(r"^\| `(\w+)` \| (.+) \| (open|closed) \|$", page, re.MULTILINE)

    assert told == [(layer.value, layer.reads, "open" if layer.is_open else "closed") for layer in Layer]
