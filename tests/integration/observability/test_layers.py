"""A layer of the gate that cannot be judged is counted by its name, and changes no other layer's verdict.

What is broken is broken for real: a table or a column has another name meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from django.db import DatabaseError, connection

from automation import gate, leases
from automation.dispatch import admission
from automation.models import Lane, Lifecycle, RunDependency, Ticket, WorkSlice
from automation.pipeline import get_pipeline
from automation.reports import progress_notifier
from automation.runs import lifecycle, reconciler
from pause_manager import fleet, holds
from pause_manager.models import ControlState
from pause_manager.observability import gate_health
from tests.support.factories import OPERATOR, claim, drain, make_run, outputs, stage_of, tickets, worker
from tests.support.lane_runs import again, codes, in_lane, make_lane, states
from tests.support.node_factories import make_node
from tests.support.scrape import renamed

pytestmark = pytest.mark.django_db

HOLDS, NODES = "pause_manager_hold", "pause_manager_workernode"
LANES, DEPENDENCIES = Lane._meta.db_table, RunDependency._meta.db_table


@contextmanager
def without(table: str, column: str) -> Iterator[None]:
    """Meanwhile the table has no such column."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO gone")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE {table} RENAME COLUMN gone TO {column}")


def degraded(scrape) -> set[str]:
    """The layers that are shown as degraded. Tests of loops may have left ``holds``."""
    told = scrape()
    shown = {s.labels["layer"] for s in told.samples if s.name == "slackwater_gate_degraded" and s.value}
    for layer in shown:
        assert told.value("slackwater_gate_degradations_total", layer=layer) >= 1
    return shown


@pytest.mark.req("S-17")
@pytest.mark.req("S-33")
def test_layers_of_explain_are_judged_apart_and_closed(scrape):
    make_node("node-1")
    run = make_run(items=3, start=False)
    holds.place([run.scope], actor=OPERATOR, reason="lunch")
    holds.place(["node:node-1"], actor=OPERATOR, reason="repairs")
    assert [reason.code for reason in gate.explain(run)] == ["operator", "node"]

    with renamed(NODES):
        codes = [reason.code for reason in gate.explain(run)]
        kept = gate.blocked([run])
    assert (codes, kept) == (["unreadable", "operator"], {run.pk})
    assert degraded(scrape) == {"node"}

    holds.release([run.scope, "node:node-1"], actor=OPERATOR, reason="done")
    assert gate.may_start(run)
    with without(HOLDS, "expires_at"):
        [reason, *others] = gate.explain(run)
        assert not gate.may_start(run)
    assert (reason.code, others[0].code) == ("unreadable", "unreadable"), "a node's holds are holds, too"
    assert "Its holds" in reason.sentence
    assert degraded(scrape) == {"node", "holds"}
    assert gate.may_start(run), "the transaction goes on, and so does the run"


@pytest.mark.django_db(transaction=True)
@pytest.mark.req("S-16")
def test_an_order_of_a_lane_that_cannot_be_read_keeps_nobody(scrape):
    site = make_lane("acme", policy="skip_parked")
    first, second = in_lane(site, 2)
    assert codes(second) == ["lane"]

    with renamed(LANES):
        assert (gate.may_start(again(second)), gate.blocked([again(second)])) == (True, set())
        [reason] = [one for one in gate.explain(again(second)) if not one.keeps]
        assert reason.sentence.startswith("The order of its lane cannot be read (ProgrammingError)")
        lifecycle.pause(first.pk, actor=OPERATOR)
        lifecycle.resume(first.pk, actor=OPERATOR)
        reconciler.reconcile()

    assert states(first, second) == ["running", "running"], "work proceeds"
    assert degraded(scrape) == {"lane"}
    assert claim(second) is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.req("S-17")
@pytest.mark.req("S-33")
def test_an_order_that_cannot_be_read_drops_no_freeze_and_no_dependency(scrape):
    site = make_lane("acme")
    (first,) = in_lane(site)
    holds.place(["lane:acme"], kind="freeze", actor=OPERATOR, reason="a check failed")
    frozen = in_lane(site)[0]
    dependent = in_lane(site, after=[first.pk])[0]

    with renamed(LANES):
        assert codes(frozen) == ["freeze"]
        reconciler.reconcile()
    holds.release(["lane:acme"], kind="freeze", actor=OPERATOR)
    with without(LANES, "width"), renamed(DEPENDENCIES):
        reconciler.reconcile()
        assert codes(dependent) == ["unreadable"]
        assert gate.blocked([again(dependent)]) == {dependent.pk}

    assert states(frozen, dependent) == ["pending", "pending"]
    assert degraded(scrape) >= {"lane", "dependency"}


@pytest.mark.django_db(transaction=True)
def test_claims_and_dispatch_stay_shut_and_say_which_layer(scrape):
    run = make_run(items=3)
    Ticket.objects.all().delete()

    with renamed(NODES), pytest.raises(DatabaseError):
        claim(run)
    assert degraded(scrape) == {"gate"}
    with without(HOLDS, "reason"), pytest.raises(DatabaseError):
        claim(run)
    assert degraded(scrape) == {"gate", "node"}
    with renamed(NODES):
        reconciler.reconcile()
    assert tickets(run) == 0
    assert not WorkSlice.objects.leased().exists()
    reconciler.reconcile()
    assert tickets(run) > 0
    assert claim(run) is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.req("P-10")
def test_room_that_cannot_be_judged_admits_nothing(scrape, settings):
    make_node("node-1", cores=8.0)
    run = make_run(items=3)
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True}
    stage = get_pipeline(run.pipeline).stage(stage_of(run).slug)
    room = partial(admission.room_here, needs=stage.needs, pipeline=run.pipeline)
    ask = partial(leases.claim, stage_of(run).pk, worker(), room=room)

    with without(NODES, "policy_state"), pytest.raises(DatabaseError):
        ask()

    assert degraded(scrape) == {"capacity"}
    assert not WorkSlice.objects.leased().exists()
    assert ask() is not None


@pytest.mark.req("W-39")
def test_a_switch_that_cannot_be_read_is_paused_and_shown(scrape):
    fleet.state()

    with renamed(ControlState._meta.db_table):
        assert fleet.state().is_paused

    assert degraded(scrape) == {"fleet"}
    assert not fleet.state().is_paused


@pytest.mark.django_db(transaction=True)
def test_what_is_only_noted_or_told_fails_open(scrape, settings):
    run = make_run(items=3)

    with without(HOLDS, "work_resumed_at"):
        drain(run)
    assert (run.lifecycle, len(outputs(run))) == (Lifecycle.COMPLETED, 3)
    assert degraded(scrape) == {"telemetry"}

    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "redis_url": "redis://127.0.0.1:9/0"}
    progress_notifier.publisher.away_until = 0.0
    try:
        other = make_run(items=3)
        drain(other)
    finally:
        progress_notifier.publisher.away_until = 0.0
    assert (other.lifecycle, len(outputs(other))) == (Lifecycle.COMPLETED, 3)
    assert degraded(scrape) == {"telemetry", "progress"}


def test_every_layer_that_is_counted_is_one_of_those_that_are_documented():
    sources = [path.read_text() for folder in ("automation", "pause_manager") for path in Path(folder).rglob("*.py")]
    used = {
        name for text in sources for name in re.findall(r'(?:layer=|guarded_read\(|counted\(|"layer": )"(\w+)"', text)
    }
    assert used <= set(gate_health.Layer)
