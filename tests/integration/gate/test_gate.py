"""One gate: what explain says, what a claim does and what dispatch sends agree on every state (invariant 8)."""

from __future__ import annotations

from itertools import product

import grimp
import pytest
from django.db.models.functions import Now

from automation import dispatch, gate, leases
from automation.errors import NoRoom
from automation.items.leased_slice import LeasedSlice
from automation.models import TERMINAL, AutomationRun, Lifecycle, Ticket
from automation.runs import lifecycle
from pause_manager import holds
from pause_manager.errors import InvalidHold
from pause_manager.models import Hold, WorkerNode
from tests.support.factories import (
    OPERATOR,
    claim,
    drain,
    everybody_has_heard,
    make_run,
    make_site,
    outputs,
    run_loop,
    stage_of,
    tickets,
    worker,
)
from tests.support.node_factories import make_node
from tests.support.pipelines import scripted

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = {
    "fleet": "fleet",
    "pipeline": "pipeline:few",
    "lane": "lane:{run.lane}",
    "queue": "queue:stages",
    "run": "run:{run.pk}",
    "the only node": "node:node-1",
    "another pipeline": "pipeline:numbers",
    "another lane": "lane:elsewhere",
    "another queue": "queue:elsewhere",
    "a node that is gone": "node:node-0",
    "another run": "run:00000000-0000-0000-0000-000000000000",
}
COVERING = ("fleet", "pipeline", "lane", "queue", "run", "the only node")


def put(run: AutomationRun, lifecycle_: Lifecycle, is_cancelled: bool) -> None:
    stamps = {
        "finished_at": Now() if lifecycle_ in TERMINAL else None,
        "cancelled_at": Now() if lifecycle_ == Lifecycle.CANCELLED else None,
        "cancel_requested_at": Now() if is_cancelled else None,
        "paused_at": None,
        "lane_seat_at": Now() if lifecycle_ == Lifecycle.RUNNING else None,
    }
    AutomationRun.objects.filter(pk=run.pk).update(lifecycle=lifecycle_, **stamps)


@pytest.mark.req("S-14")
@pytest.mark.parametrize(
    ("scope", "whole"),
    [
        ("the only node", False),
        *(pytest.param(scope, False, marks=pytest.mark.slow) for scope in ("run", "fleet", "another lane")),
        *(pytest.param(scope, True, marks=pytest.mark.slow) for scope in SCOPES),
    ],
)
def test_claim_dispatch_and_explain_agree(scope, whole):
    make_node("node-1")
    run = make_run("few", items=4)
    name = SCOPES[scope].format(run=run)

    some = [*product(Hold.Kind, [Hold.Mode.DRAIN]), (Hold.Kind.OPERATOR, Hold.Mode.QUIESCE)]
    for kind, mode in product(Hold.Kind, Hold.Mode) if whole else some:
        for is_held in (True, False):
            if is_held:
                holds.place([name], kind=kind, mode=mode, actor=OPERATOR, reason="because")
            else:
                holds.release([name], kind=kind, actor=OPERATOR, reason="because")
            states = Lifecycle if whole or kind == Hold.Kind.OPERATOR else (Lifecycle.PENDING, Lifecycle.RUNNING)
            for state, is_cancelled in product(states, (False, True)):
                assert_agreement(run, state, is_cancelled, is_kept=is_held and scope in COVERING)


def claimed(stage_run_id: int) -> LeasedSlice | None:
    try:
        return leases.claim(stage_run_id, worker())
    except NoRoom:
        return None


def assert_agreement(run: AutomationRun, state: Lifecycle, is_cancelled: bool, *, is_kept: bool) -> None:
    put(run, state, is_cancelled)
    WorkerNode.objects.filter(name="node-1").update(last_seen_at=Now())  # as long as this takes, it lives
    stage_run = run.stages.get(slug="few")
    now = AutomationRun.objects.get(pk=run.pk)
    is_open = not is_kept and not is_cancelled and state in (Lifecycle.PENDING, Lifecycle.RUNNING)

    sent = dispatch.dispatch([stage_run.pk])
    work = claimed(stage_run.pk)

    assert gate.may_proceed(gate.explain(now)) == gate.may_start(now) == is_open
    assert gate.blocked([now]) == ({run.pk} if state not in TERMINAL and not is_open else set())
    # A pending run has no stage at work yet: nothing to claim, though the gate is open.
    assert (work is not None) == (sent > 0) == (is_open and state == Lifecycle.RUNNING)
    if work is not None:
        leases.release(work)
    Ticket.objects.all().delete()


def test_reasons_come_in_the_fixed_order_each_with_all_its_parts():
    run = make_run("few", items=4)
    for scope, kind in [
        (run.scope, "capacity"),
        (run.scope, "needs_input"),
        (run.scope, "budget"),
        (run.scope, "operator"),
        ("pipeline:few", "freeze"),
        ("fleet", "operator"),
    ]:
        holds.place([scope], kind=kind, actor=OPERATOR, reason=f"{kind} of {scope.partition(':')[0]}")

    reasons = gate.explain(AutomationRun.objects.get(pk=run.pk))

    assert [reason.code for reason in reasons] == ["fleet", "freeze", "operator", "budget", "needs_input", "capacity"]
    assert [reason.sentence for reason in reasons][:3] == [
        "The fleet was paused by olga: operator of fleet.",
        "The pipeline few was frozen by olga: freeze of pipeline.",
        "This run was paused by olga: operator of run.",
    ]
    assert all(reason.since and reason.actor == "user:olga" and reason.lifted_by for reason in reasons)
    parts = {"code", "sentence", "since", "actor", "lifted_by", "figures"}
    assert all(set(reason.as_dict()) == parts for reason in reasons)


@pytest.mark.req("M-27")
def test_a_held_node_is_a_reason_only_where_no_other_is_left():
    make_node("node-1")
    make_node("node-2")
    make_node("long-gone", age_seconds=600, is_live=False)
    run = make_run("few", items=4)
    holds.place(["node:node-1"], actor=OPERATOR, reason="new memory")
    assert gate.may_start(run)
    assert claimed(stage_of(run).pk) is None, "node-1 takes nothing"

    holds.place(["node:node-2"], actor=OPERATOR, reason="new disks")

    assert [(reason.code, reason.sentence) for reason in gate.explain(run)] == [
        ("node", "No node may take new work: node-1 was paused by olga: new memory."),
        ("node", "No node may take new work: node-2 was paused by olga: new disks."),
    ]
    holds.release(["node:node-1"], actor=OPERATOR)
    assert gate.may_start(run)
    assert claimed(stage_of(run).pk) is not None


def test_the_lane_of_a_run_is_its_site():
    run, other = make_run("few", items=4, site=make_site("blog")), make_run("few", items=4, site=make_site("shop"))

    holds.place(["lane:blog"], actor=OPERATOR, reason="moving the blog")

    assert (run.lane, other.lane) == ("blog", "shop")
    assert [reason.sentence for reason in gate.explain(run)] == ["The lane blog was paused by olga: moving the blog."]
    assert claimed(stage_of(run).pk) is None
    assert claimed(stage_of(other).pk) is not None


def test_a_quiesced_lane_stops_at_the_next_item():
    run = make_run("scripted", items=6)
    seen: list[int] = []

    def script(payload, ctx):
        seen.append(payload["n"])
        if payload["n"] == 2:
            holds.place([f"lane:{run.lane}"], mode="quiesce", actor=OPERATOR, reason="moving")
            everybody_has_heard()

    with scripted(script):
        run_loop(run)
    assert seen == [1, 2]

    holds.release([f"lane:{run.lane}"], actor=OPERATOR)
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def test_a_reason_that_is_a_sentence_gets_no_second_full_stop():
    run = make_run("few", items=4)
    holds.place([run.scope], kind="capacity", actor=OPERATOR, reason="vm has 5% of its cores free; it takes 20%.")

    [reason] = gate.explain(AutomationRun.objects.get(pk=run.pk))

    assert reason.sentence == "This run was paused by olga: vm has 5% of its cores free; it takes 20%."


def test_a_cancel_and_an_end_are_reasons_of_their_own():
    run = make_run("few", items=4)
    claim(run)
    lifecycle.cancel(run.pk, actor=OPERATOR)

    assert [reason.code for reason in gate.explain(AutomationRun.objects.get(pk=run.pk))] == ["cancel"]
    assert [reason.code for reason in gate.explain(drain(make_run("numbers")))] == ["finished"]


@pytest.mark.req("P-25")
@pytest.mark.parametrize("first", ["operator", "capacity"])
def test_releasing_one_kind_leaves_the_other_in_force(first):
    run = make_run("few", items=4)
    second = {"operator": "capacity", "capacity": "operator"}[first]
    for kind in (first, second):
        holds.place([run.scope], kind=kind, actor=OPERATOR)
    since = AutomationRun.objects.get(pk=run.pk).paused_at

    holds.release([run.scope], kind=first, actor=OPERATOR)

    run.refresh_from_db()
    assert run.paused_at == since
    assert run.resumed_at is None
    assert claim(run) is None
    holds.release([run.scope], kind=second, actor=OPERATOR)
    run.refresh_from_db()
    assert (run.paused_at, run.resumed_at is not None) == (None, True)
    assert claim(run) is not None


def test_a_hold_of_the_fleet_lets_go_of_everything_at_its_release():
    running, waiting = make_run("few", items=4), None
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")
    waiting = make_run("few", items=4)
    assert waiting.lifecycle == Lifecycle.PENDING
    drain(running)
    assert tickets(running) == 0

    holds.release(["fleet"], actor=OPERATOR)

    assert drain(running).lifecycle == drain(waiting).lifecycle == Lifecycle.COMPLETED


def test_a_drain_lets_a_slice_end_and_leases_no_other():
    run = make_run("scripted", items=10)

    def script(payload, ctx):
        if payload["n"] == 2:
            holds.place([run.scope], mode=Hold.Mode.DRAIN, actor=OPERATOR)

    with scripted(script):
        run_loop(run)

    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]


@pytest.mark.req("S-15")
def test_the_gate_imports_no_network_client():
    graph = grimp.build_graph(
        "automation", "pause_manager", include_external_packages=True, exclude_type_checking_imports=True
    )

    used = graph.find_upstream_modules("automation.gate")

    assert "pause_manager.models" in used
    assert used.isdisjoint(
        {"redis", "celery", "kombu", "httpx", "socket", "urllib", "http", "pause_manager.messaging.notifier"}
    )


@pytest.mark.parametrize(
    "scope", ["", "everything", "run:", "queue: x", "fleets", "run:a b", "host:x", "run:" + "x" * 101]
)
def test_a_scope_that_does_not_exist_cannot_be_held(scope):
    with pytest.raises(InvalidHold, match="expected fleet, queue:x"):
        holds.place([scope], actor=OPERATOR)


@pytest.mark.req("S-18")
@pytest.mark.parametrize("scope", ["run:no-such-id", "run:00000000-0000-0000-0000-000000000000"])
def test_a_hold_on_a_run_that_does_not_exist_harms_nobody(scope):
    assert holds.place([scope], actor=OPERATOR) == [scope]
    assert holds.release([scope], actor=OPERATOR) == [scope]


def test_a_hold_of_the_fleet_needs_a_reason():
    with pytest.raises(InvalidHold, match=r"Cannot hold the fleet: expected a reason, got none\."):
        holds.place(["fleet"], actor=OPERATOR, reason="  ")
