"""Whatever happens to a run, the ledger says what its committed outputs cost, and the account is never overdrawn."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automation import leases
from automation.contrib.credits import allowance, funds, settling
from automation.contrib.credits.models import Line, StagePrice
from automation.errors import LeaseLost, TransitionRefused
from automation.items import store, units
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import AutomationRun, ItemFailure, Lifecycle
from automation.runs import advancing, lifecycle, reconciler, retries
from tests.support.credit_books import CREDIT, assert_sound, balance, charged, funded_site, in_book, price_of, top_up
from tests.support.factories import OPERATOR, claim, expire_leases, make_run, outputs
from tests.support.table_cleaner import empty_tables

pytestmark = pytest.mark.django_db(transaction=True)

COST = 7
ITEMS = 12
STEPS = (
    "done",
    "done",
    "done",
    "failed",
    "again",
    "stale",
    "silent",
    "back",
    "pause",
    "resume",
    "pay",
    "sweep",
    "cancel",
)


class Play:
    """One run with up to two loops, which act by hand: they draw, do items, repeat themselves, fall silent."""

    def __init__(self) -> None:
        self.site = funded_site(16)
        price_of("scripted", "scripted", CREDIT, cost=COST)
        self.run = make_run("scripted", items=ITEMS, site=self.site)
        self.price = StagePrice.objects.get(run_id=self.run.pk)
        self.works: list[LeasedSlice | None] = [None, None]
        self.last: list[tuple[LeasedSlice, Progress] | None] = [None, None]
        self.payments = 0

    def step(self, name: str, which: int) -> None:
        if name in ("done", "failed"):
            self._do(which, is_failed=name == "failed")
        elif name == "again":
            self._repeat(which)
        elif name == "silent":
            expire_leases(self.run)
            reconciler.handle_lost_leases(leases.reap())
        elif name == "back" and self.works[which] is not None:
            leases.release(self.works[which])  # type: ignore[arg-type]
            self.works[which] = None
        elif name == "pay":
            self.payments += 1
            top_up(self.site.account, 2, key=f"payment {self.payments // 2}")  # every other one is a repeat
        elif name == "sweep":
            settling.sweep()
            reconciler.reconcile()
        elif name in ("pause", "resume", "cancel"):
            with contextlib.suppress(TransitionRefused):
                getattr(lifecycle, name)(self.run.pk, actor=OPERATOR)

    def _do(self, which: int, *, is_failed: bool) -> None:
        work = self.works[which]
        if work is None or work.cursor == work.last_key:
            work = self.works[which] = claim(self.run, f"loop-{which}", slug="scripted")
        if work is None or not allowance.draw(self.price, work, 1).passes:
            return
        stage_run = self.run.stages.get(slug="scripted")
        unit = next(units.units_of(work, stage_run), None)
        if unit is None:
            return
        if is_failed:
            done = Progress(cursor=unit.last_key, failed=1, failures=unit.failures(ValueError("no"), 2))
        else:
            done = Progress(cursor=unit.last_key, processed=1, outputs=store.output_rows(unit.key, [{"n": 1}]))
        self.last[which] = (_copy(work), done)
        with contextlib.suppress(LeaseLost):
            checkpoint.commit(work, done)
            return
        self.works[which] = None

    def _repeat(self, which: int) -> None:
        """The same checkpoint again: its answer was lost, or its loop does not know that it is somebody else's turn."""
        last = self.last[which]
        if last is not None:
            with contextlib.suppress(LeaseLost):
                checkpoint.commit(_copy(last[0]), last[1])

    def check(self) -> None:
        made, failed = len(outputs(self.run)), ItemFailure.objects.filter(stage_run__run=self.run).count()
        assert charged(self.run) == made * CREDIT
        assert in_book(Line.Book.EXPENSE, transfer__run_id=self.run.pk) == (made + 2 * failed) * COST
        assert balance(self.site) >= 0
        assert_sound(self.site)


def _copy(work: LeasedSlice) -> LeasedSlice:
    return LeasedSlice(**vars(work))


HISTORIES = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1)), min_size=5, max_size=40)


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(steps=HISTORIES)
def test_the_ledger_says_what_the_outputs_cost_after_any_history(steps: list[tuple[str, int]]):
    play_and_check(steps)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(steps=HISTORIES)
def test_and_after_many_more(steps: list[tuple[str, int]]):
    play_and_check(steps)


def play_and_check(steps: list[tuple[str, int]]) -> None:
    empty_tables()
    play = Play()

    for name, which in steps:
        play.step(name, which)
        play.check()
    _end(play)

    play.check()
    assert in_book(Line.Book.RESERVED, account_id=play.site.account_id) == 0
    assert funds.of_account(play.site.account_id).reserved == 0


def _end(play: Play) -> None:
    """Have the run end: it is cancelled, or a retry does what is left of it."""
    expire_leases(play.run)
    reconciler.handle_lost_leases(leases.reap())
    with contextlib.suppress(TransitionRefused):
        lifecycle.cancel(play.run.pk, actor=OPERATOR)
    reconciler.reconcile()
    settling.sweep()
    play.run.refresh_from_db()
    assert play.run.finished_at is not None


@pytest.mark.req("A-26")
def test_a_retry_charges_what_it_makes_and_nothing_twice():
    site = funded_site(40)
    price_of("scripted", "scripted")
    run = make_run("scripted", items=6, site=site)
    for work in iter(lambda: claim(run), None):
        for unit in units.units_of(work, run.stages.get(slug="scripted")):
            is_failed = unit.key in ("001", "004")
            done: dict[str, Any] = (
                {"failed": 1, "failures": unit.failures(ValueError("no"), 1)}
                if is_failed
                else {"processed": 1, "outputs": store.output_rows(unit.key, [{"n": 1}])}
            )
            checkpoint.commit(work, Progress(cursor=unit.last_key, **done))
    advancing.seal_finished()
    run.refresh_from_db()
    assert (run.lifecycle, charged(run)) == (Lifecycle.COMPLETED, 4 * CREDIT)

    again = retries.retry_failed(run.pk, actor=OPERATOR)
    for work in iter(lambda: claim(again), None):
        for unit in units.units_of(work, again.stages.get(slug="scripted")):
            rows = store.output_rows(unit.key, [{"n": 1}])
            checkpoint.commit(work, Progress(cursor=unit.last_key, processed=1, outputs=rows))

    assert charged(AutomationRun.objects.get(pk=again.pk)) == 2 * CREDIT
    assert balance(site) == 34 * CREDIT
    assert_sound(site)
