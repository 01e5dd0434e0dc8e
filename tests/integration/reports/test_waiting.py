"""What runs wait for, counted: the same as ``explain`` says of each."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from automation import gate
from automation.models import AutomationRun, Lane, Lifecycle, StageRun, Ticket, WorkSlice
from automation.reports import waiting
from automation.runs import dependencies, lanes, lifecycle
from pause_manager import holds, manager, resources
from pause_manager.capacity.needs import Needs
from pause_manager.models import Hold, PauseQueueEntry, PollState
from pause_manager.nodes import members
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.reasons import ORDER, ReasonCode
from tests.support.factories import OPERATOR, claim, make_run, make_site
from tests.support.node_factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)

PIPELINES = ("few", "numbers", "chain", "on-agents")
KINDS = (Hold.Kind.OPERATOR, Hold.Kind.FREEZE, Hold.Kind.BUDGET, Hold.Kind.NEEDS_INPUT)


def counted_one_by_one() -> Counter[str]:
    """By ``explain``, for those of whom nobody works on anything that is to be done."""
    found: Counter[str] = Counter()
    for run in AutomationRun.objects.unfinished():
        slices = WorkSlice.objects.open().filter(stage_run__run=run, stage_run__lifecycle=Lifecycle.RUNNING)
        if run.lifecycle == Lifecycle.PENDING and run.start_requested_at is None:
            continue
        if run.lifecycle == Lifecycle.RUNNING and (
            not slices.exists() or WorkSlice.objects.leased().filter(stage_run__run=run).exists()
        ):
            continue
        reasons = gate.explain(run)
        # Of a run that waits for room, that no worker serves it stands where the room would.
        codes = [reason.code for reason in reasons if reason.code != ReasonCode.NO_WORKER]
        assert codes == sorted(codes, key=ORDER.index)
        found[reasons[0].code if reasons else waiting.STARTING] += 1
    return found


class Chaos:
    """Runs in states that come one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sites = [make_site(f"s{number}") for number in range(3)]
        for site in self.sites:
            Lane.objects.update_or_create(
                name=site.slug,
                defaults={"width": self.random.choice((1, 2, 50)), "policy": self.random.choice(Lane.Policy.values)},
            )
        members.acknowledge("w@n1", node="n1", queues=["stages"], version=1)
        self.runs = [self.make() for _ in range(12)]

    def make(self) -> AutomationRun:
        site = self.random.choice(self.sites)
        return make_run(self.random.choice(PIPELINES[:3]), items=6, site=site)

    def one(self) -> AutomationRun:
        return AutomationRun.objects.get(pk=self.random.choice(self.runs).pk)

    def change(self) -> None:
        getattr(self, self.random.choice([name for name in dir(self) if name.startswith("do_")]))()

    def do_hold(self) -> None:
        run = self.one()
        scope = self.random.choice(
            [
                *([run.scope] * 4),
                f"lane:{run.lane}",
                f"pipeline:{run.pipeline}",
                "queue:stages",
                "node:n1",
                *(["fleet"] if self.random.random() < 0.2 else []),
            ]
        )
        if run.finished_at is None:
            holds.place([scope], kind=self.random.choice(KINDS), actor=OPERATOR, reason="chaos")

    def do_release(self) -> None:
        hold = Hold.objects.active().order_by("?").first()
        if hold is not None:
            holds.release([hold.scope], kind=hold.kind, actor=OPERATOR)

    def do_park_for_room(self) -> None:
        run = self.one()
        if run.finished_at is not None:
            return
        manager.pause_work(
            [
                WithheldDispatch(
                    run.scope, "automation.go_on", "control", Needs(), work_queue="stages", pipeline=run.pipeline
                )
            ],
            reason="full",
        )
        needs = PauseQueueEntry.objects.get(ref=run.scope, finished_at=None).needs
        code = self.random.choice(("no_worker", "no_headroom"))
        told = [{"queue": "stages", "pipeline": run.pipeline, "needs": needs, "code": code, "sentence": "So it is."}]
        PollState.objects.update_or_create(pk=1, defaults={"polled_at": Now(), "told": told})

    def do_lease(self) -> None:
        run = self.one()
        if run.stages.filter(lifecycle=Lifecycle.RUNNING).exists():
            claim(run)

    def do_cancel(self) -> None:
        AutomationRun.objects.unfinished().filter(pk=self.one().pk).update(cancel_requested_at=Now())

    def do_await(self) -> None:
        first, second = sorted((self.one(), self.one()), key=lambda run: str(run.pk))
        if (
            first.pk != second.pk
            and first.lane == second.lane
            and second.started_at is None
            and second.finished_at is None
        ):
            dependencies.add(second.pk, [first.pk], actor=OPERATOR)

    def do_order(self) -> None:
        AutomationRun.objects.filter(pk=self.one().pk).update(priority=self.random.randint(1, 5))

    def do_lose_code(self) -> None:
        AutomationRun.objects.filter(pk=self.one().pk).update(pipeline="gone")

    def do_copy(self) -> None:
        AutomationRun.objects.filter(pk=self.one().pk, lifecycle=Lifecycle.PENDING).update(copying={})

    def do_fill(self) -> None:
        lanes.fill_all()

    def do_fail_loops(self) -> None:
        running = StageRun.objects.filter(run=self.one(), lifecycle=Lifecycle.RUNNING)
        running.update(loop_failures=F("loop_failures") + 1)

    def do_wait_for_items(self) -> None:
        later = Now() + timedelta(minutes=5)
        WorkSlice.objects.open().filter(stage_run__run=self.one(), lease_token=None).update(waits=1, available_at=later)

    def do_lose_workers(self) -> None:
        WorkSlice.objects.open().filter(stage_run__run=self.one()).update(crashes=5)

    def do_age_tickets(self) -> None:
        Ticket.objects.filter(stage_run__run=self.one()).update(sent_at=Now() - timedelta(minutes=1))

    def do_answer_tickets(self) -> None:
        Ticket.objects.filter(stage_run__run=self.one()).delete()

    def do_serve(self) -> None:
        queues = self.random.choice((["stages"], ["elsewhere"]))
        members.acknowledge("w@n1", node="n1", queues=queues, version=1)

    def do_have_a_node(self) -> None:
        make_node("n1")

    def do_limit_a_resource(self) -> None:
        StageRun.objects.filter(run=self.one(), definition__isnull=False, position__gte=0).update(
            definition=_using(StageRun.objects.filter(run=self.one(), position=0).get().definition)
        )
        resources.set_limits("openai", {"max_at_once": 1}, actor=OPERATOR)


def _using(definition: dict[str, object] | None) -> dict[str, object]:
    return {**(definition or {}), "uses": ["openai"]}


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 8))])
def test_every_state_is_counted_as_it_is_explained(seed: int):
    chaos = Chaos(seed)
    seen: Counter[str] = Counter()

    for _ in range(25):
        chaos.change()
        # A message must not become too old between the two looks.
        fresh = Ticket.objects.filter(sent_at__gt=Now() - timedelta(seconds=30))
        fresh.update(sent_at=Now() + timedelta(hours=1))
        expected = counted_one_by_one()
        assert Counter(waiting.by_reason()) == expected
        seen += expected

    assert len(seen) > 2, "the states differ"


def test_a_run_that_was_not_started_and_one_that_is_worked_on_do_not_wait():
    run = make_run("few", items=3)
    assert claim(run) is not None

    assert waiting.by_reason() == {}
    lifecycle.pause(run.pk, actor=OPERATOR)
    assert waiting.by_reason() == {}
