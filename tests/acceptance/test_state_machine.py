"""A run under everything that can happen to it, in any order: the laws hold after each step, the outputs at the end.

Work is done by hand with the engine's own parts (claim, units, attempt, checkpoint), so that a worker can die between
any two of them, and by whole loops.
"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import DatabaseError, connection
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from automation import leases, tasks
from automation.dispatch import dispatcher
from automation.errors import LeaseLost, TransitionRefused
from automation.items.leased_slice import LeasedSlice
from automation.items.store import output_rows
from automation.items.units import Unit, units_of
from automation.leases import checkpoint, claims
from automation.leases.checkpoint import Progress
from automation.models import TERMINAL, AutomationRun, ItemFailure, Lifecycle, StageRun, Ticket, WorkItem, WorkSlice
from automation.pipeline import get_pipeline
from automation.pipeline.context import Artifacts, StageContext
from automation.reports import progress, status
from automation.runs import lifecycle, reconciler, transitions
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.factories import OPERATOR, drain, everything, make_run, make_site, settle, worker
from tests.support.pipelines import Fan

ITEMS = 7
POISON = 3


@dataclass
class Hand:
    """A worker moved by hand: its lease, the units it still sees, and what it has not committed yet."""

    work: LeasedSlice
    stage_run: StageRun
    units: list[Unit]
    done: Progress
    dead: bool = field(default=False)


class Life(RuleBasedStateMachine):
    hands = Bundle("hands")

    def __init__(self) -> None:
        super().__init__()
        self.run = make_run("chain", items=ITEMS, site=make_site(), start=False)
        self.names = itertools.count()
        self.processed = 0
        self.crashes = 0
        self.old_messages: list[tuple[int, int]] = []
        self.first_terminal: str | None = None

    @initialize(at_once=st.integers(0, 4))
    def begin(self, at_once: int) -> None:
        if at_once:
            self.start()

    # What people do ---------------------------------------------------------------------------------------------

    @rule()
    def start(self) -> None:
        self._verb(lifecycle.start_run)

    @rule()
    def pause(self) -> None:
        self._verb(lifecycle.pause)

    @rule()
    def resume(self) -> None:
        self._verb(lifecycle.resume)

    @rule(kind=st.sampled_from(["capacity", "budget"]))
    def hold_by_machine(self, kind: str) -> None:
        if self._fresh().lifecycle not in TERMINAL:
            holds.place([self.run.scope], kind=kind, actor=OPERATOR)

    @rule(kind=st.sampled_from(["capacity", "budget"]))
    def release_by_machine(self, kind: str) -> None:
        before = set(Hold.objects.active().filter(kind="operator").values_list("scope", flat=True))
        holds.release([self.run.scope], kind=kind, actor=OPERATOR)
        assert set(Hold.objects.active().filter(kind="operator").values_list("scope", flat=True)) == before

    @rule(really=st.integers(0, 9))
    def cancel(self, really: int) -> None:
        if really == 0:  # most lives should see more than a cancel
            self._verb(lifecycle.cancel)

    def _verb(self, verb: Any) -> None:
        before = self._facts()
        try:
            verb(self.run.pk, actor=OPERATOR)
        except TransitionRefused:
            assert self._facts() == before

    # What workers do --------------------------------------------------------------------------------------------

    @rule(target=hands)
    def claim(self) -> Any:
        if not (stage_run := self._running()):
            return multiple()
        is_held = Hold.objects.covering([self.run.scope]).exists()
        name = f"hand-{next(self.names)}"
        work = leases.claim(stage_run.pk, worker(name))
        if work is None:
            return multiple()
        assert not is_held, "leased in spite of a hold"
        return Hand(work, stage_run, list(units_of(work, stage_run)), Progress(cursor=work.cursor))

    @rule(target=hands)
    def claim_and_be_taken_for_dead(self) -> Any:
        """Its lease runs out while it is at work; it will wake up and write."""
        hand = self.claim()
        if isinstance(hand, Hand) and self.crashes < POISON - 1:
            self.work_one_item(hand)
            self.die(hand)
            reconciler.reap()
        return hand

    @rule(target=hands)
    def claim_and_commit_the_first_item(self) -> Any:
        """Then stand in the middle of the slice."""
        hand = self.claim()
        if isinstance(hand, Hand):
            self.work_one_item(hand)
            self.checkpoint(hand, release=False)
        return hand

    @rule(hand=hands)
    def work_one_item(self, hand: Hand) -> None:
        """Into the buffer only. Alive, dead or stale: what a worker does alone disturbs nobody."""
        if hand.units:
            unit = hand.units.pop(0)
            stage = get_pipeline("chain").stage(hand.stage_run.slug)()
            ctx = _context(hand.stage_run)
            made: Any = stage.process(unit.given, ctx)
            hand.done.outputs += output_rows(unit.key, made)
            hand.done.processed += unit.size
            hand.done.cursor = unit.last_key

    @rule(hand=hands, release=st.booleans())
    def checkpoint(self, hand: Hand, release: bool) -> None:
        """Also of a worker that was taken for dead and wakes up."""
        is_held = WorkSlice.objects.filter(pk=hand.work.slice_id, lease_token=hand.work.token).exists()
        before = self._facts()
        try:
            checkpoint.commit(hand.work, hand.done, release=release)
        except LeaseLost:
            assert not is_held
            assert self._facts() == before
        else:
            assert is_held
            hand.done = Progress(cursor=hand.work.cursor)

    @rule(hand=hands)
    def heartbeat(self, hand: Hand) -> None:
        is_held = WorkSlice.objects.filter(pk=hand.work.slice_id, lease_token=hand.work.token).exists()
        stop = leases.heartbeat(hand.work)
        assert (stop is not None and stop.code == "lease_lost") != is_held

    @rule(hand=hands)
    def die(self, hand: Hand) -> None:
        """The lease of a dead worker runs out by the database's clock. Not often enough on one item to condemn it."""
        if self.crashes >= POISON - 1:
            return
        self.crashes += WorkSlice.objects.filter(pk=hand.work.slice_id, lease_token=hand.work.token).update(
            lease_expires_at=self.run.created_at
        )

    @rule()
    def whole_loop(self) -> None:
        if ticket := Ticket.objects.filter(stage_run__run=self.run).first():
            self.old_messages.append((ticket.stage_run_id, ticket.pk))
            tasks.stage_loop(ticket.stage_run_id, ticket.pk)

    @rule()
    def redelivery(self) -> None:
        for message in self.old_messages:
            before = self._facts()
            tasks.stage_loop(*message)
            assert self._facts() == before

    # What beat does ---------------------------------------------------------------------------------------------

    @rule()
    def reap(self) -> None:
        reconciler.reap()

    @rule()
    def reconcile(self) -> None:
        reconciler.reconcile()

    @rule()
    def lose_all_messages(self) -> None:
        Ticket.objects.filter(stage_run__run=self.run).delete()

    # The laws (architecture, section 9) -------------------------------------------------------------------------

    @invariant()
    def terminal_is_terminal(self) -> None:
        now = self._fresh().lifecycle
        assert self.first_terminal in (None, now)
        if now in TERMINAL:
            self.first_terminal = now
            assert not Hold.objects.covering([self.run.scope]).exists()

    @invariant()
    def paused_is_shown_only_when_nothing_is_leased(self) -> None:
        run = self._fresh()
        is_leased = WorkSlice.objects.leased().filter(stage_run__run=run).exists()
        shown = status.of(run)
        assert not (shown == "paused" and is_leased)
        is_held = Hold.objects.covering([run.scope]).exists()
        assert (run.paused_at is not None) == is_held
        if run.cancel_requested_at is not None:
            assert shown in ("cancelling", "cancelled")

    @invariant()
    def counts_add_up_and_never_fall(self) -> None:
        snapshot = progress.snapshot(self._fresh())
        for part in (snapshot["overall"], *snapshot["stages"]):
            assert part["processed_items"] + part["failed_items"] + part["remaining_count"] == part["total_items"]
        processed = sum(stage["processed_items"] for stage in snapshot["stages"])
        assert processed >= self.processed
        self.processed = processed

    @invariant()
    def committed_outputs_are_those_up_to_the_cursors(self) -> None:
        """Nothing lost, nothing doubled: each stage has made what its processed items make, and no more."""
        for stage_run in self.run.stages.filter(position__gte=0):
            expected = EXPECTED[stage_run.slug]
            keys = set(WorkItem.objects.filter(made_by=stage_run).values_list("key", flat=True))
            done: set[str] = set()
            for part in stage_run.slices.exclude(cursor=""):
                done |= {key for key, _ in expected if part.first_key <= key.rpartition(".")[0] <= part.cursor}
            assert keys == done

    @invariant()
    def counts_are_those_of_the_items_before_the_cursors(self) -> None:
        for part in WorkSlice.objects.filter(stage_run__run=self.run).exclude(cursor=""):
            passed = WorkItem.objects.filter(made_by=part.source_id, key__gte=part.first_key, key__lte=part.cursor)
            assert part.processed + part.failed == passed.count()

    @invariant()
    def every_transition_has_one_event(self) -> None:
        counted = ControlEvent.objects.filter(scope=self.run.scope)
        run = self._fresh()
        assert counted.filter(action="create").count() == 1
        assert counted.filter(action="start").count() == (run.started_at is not None)
        assert counted.filter(action__in=("complete", "fail", "cancel")).count() == (run.finished_at is not None)
        assert counted.filter(action="cancel_requested").count() == (run.cancel_requested_at is not None)
        placed = counted.filter(action="hold_placed").count()
        released = counted.filter(action="hold_released").count()
        assert placed - released == Hold.objects.covering([run.scope]).count()

    def teardown(self) -> None:
        """However the life went: once nothing keeps it, the run ends with the outputs of an undisturbed one."""
        for kind in Hold.Kind:
            holds.release([self.run.scope], kind=kind, actor=OPERATOR)
        self._verb(lifecycle.start_run)
        WorkSlice.objects.filter(stage_run__run=self.run, lease_token__isnull=False).update(
            lease_expires_at=self.run.created_at,
            crashes=0,  # a third death on one item would condemn it
        )
        settle(self.run)
        self.run.refresh_from_db()
        self.terminal_is_terminal()
        self.counts_add_up_and_never_fall()
        self.committed_outputs_are_those_up_to_the_cursors()
        if self.run.lifecycle != Lifecycle.CANCELLED:
            assert self.run.lifecycle == Lifecycle.COMPLETED
            assert everything(self.run) == EXPECTED
            assert not ItemFailure.objects.filter(stage_run__run=self.run).exists()

    def _fresh(self) -> AutomationRun:
        return AutomationRun.objects.with_leases().get(pk=self.run.pk)

    def _running(self) -> StageRun | None:
        return self.run.stages.filter(lifecycle=Lifecycle.RUNNING).select_related("run").order_by("position").first()

    def _facts(self) -> tuple[Any, ...]:
        """What must not change when something is refused."""
        return (
            AutomationRun.objects.filter(pk=self.run.pk).values().get(),
            list(WorkSlice.objects.filter(stage_run__run=self.run).order_by("pk").values()),
            WorkItem.objects.filter(made_by__run=self.run).count(),
            ControlEvent.objects.filter(scope=self.run.scope).count(),
            Hold.objects.active().count(),
        )


EXPECTED: dict[str, list[tuple[str, dict[str, Any]]]] = {}


def _context(stage_run: StageRun) -> StageContext:
    return StageContext(
        run_id=stage_run.run_id,
        stage_slug=stage_run.slug,
        params={},
        logger=logging.getLogger("tests"),
        artifacts=Artifacts(stage_run.run_id, stage_run.slug),
        sleep=time.sleep,
        items=lambda: iter(()),
    )


@pytest.fixture
def undisturbed(transactional_db: None, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.AUTOMATION = {
        **settings.AUTOMATION,
        "lease_seconds": 3_600.0,
    }  # only who is said to die does, however slow
    monkeypatch.setattr(Fan, "slice_size", ITEMS)  # one long slice to be interrupted in, then many short ones
    EXPECTED.clear()
    EXPECTED.update(everything(drain(make_run("chain", items=ITEMS, site=make_site()))))
    assert len(EXPECTED["few"]) == 3
    assert connection.in_atomic_block is False


def live(examples: int, steps: int, **options: Any) -> None:
    run_state_machine_as_test(
        Life,
        settings=hypothesis_settings(
            max_examples=examples,
            stateful_step_count=steps,
            database=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


@pytest.mark.timeout(300)
def test_whatever_happens_the_laws_hold(undisturbed):
    live(examples=6, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_happens_for_long_the_laws_hold(undisturbed):
    live(examples=150, steps=60)


TOKEN = "AND lease_token = %(token)s::bigint"
MUTANTS = {
    "a stale worker may write": (checkpoint, "_MOVE_ON", lambda sql: sql.replace(TOKEN, "")),
    "a stale worker may end": (
        checkpoint,
        "_END",
        lambda sql: sql.replace(TOKEN, ""),
    ),
    "claims ignore holds": (
        claims,
        "_OPEN_IF_PLAIN",
        lambda sql: sql.replace("hold.scope IN ('fleet'", "false AND hold.scope IN ('fleet'"),
    ),
    "messages are answered twice": (dispatcher, "answer", lambda _: lambda ticket_id: True),
    "holds outlive their run": (transitions, "_drop_holds", lambda _: lambda scope: None),
    "the times of a pause are not kept": (transitions, "update_pause_times", lambda _: lambda run_ids: None),
    "counts are not moved": (
        checkpoint,
        "_MOVE_ON",
        lambda sql: sql.replace("processed + %(processed)s::int", "processed"),
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_machine_finds_a_planted_fault(mutant, undisturbed, monkeypatch):
    module, name, mutate = MUTANTS[mutant]
    original = getattr(module, name)
    monkeypatch.setattr(module, name, mutate(original))
    assert getattr(module, name) != original

    with pytest.raises((AssertionError, DatabaseError)):
        live(examples=60, steps=30, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False)
