"""The item loop: works through the items of one slice after the other, for a stage loop, and commits what they give.

Between two items that cost nothing it stands in every item's way, so it is flat: whatever is rare has left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from automation.dispatch.turns import Turn
from automation.errors import CheckpointRefused
from automation.gate import installed_code
from automation.items import store
from automation.items.answers import Answers, Skipped
from automation.items.background_connection import BackgroundConnection
from automation.items.leased_slice import LeasedSlice
from automation.items.partial_items import ItemStates, PartialItem
from automation.items.units import Failure, Unit, UnitReader
from automation.leases import allowances, loop_heartbeat
from automation.leases.checkpoint import INTERVAL_SECONDS, Progress
from automation.leases.committing import AsyncCommitter
from automation.models import StageRun
from automation.pipeline import AnyStage, TryLater, item_types
from automation.pipeline.context import Interrupted, StageContext, TookTooLong
from automation.pipeline.definition import Definition
from automation.runs import questions
from automation.worker import asking, memory_faults, postponement, throttling
from automation.worker.asking import ASKS, Exhausted
from automation.worker.attempts import GivenUp, again
from automation.worker.item_timeouts import item_timeout
from automation.worker.pace import Pace
from automation.worker.permitted_items import DrawSize, PermittedItems
from pause_manager.holds.stops import Stop
from pause_manager.slots import slot_table
from pause_manager.slots.slot_table import ATTEMPT, BEGUN, LIMIT, NUMBER, Slot

MOST_BYTES = 16 * 1024 * 1024
"""Outputs that wait for a checkpoint are committed when they are so large, however short a time it is."""
SHORT_ITEM_SECONDS = 0.005
SHORT_ITEMS_SECONDS = 0.25
"""Between two checkpoints where items are shorter than :data:`SHORT_ITEM_SECONDS`: there the checkpoints cost most."""


@dataclass(frozen=True)
class Halt:
    """The loop leaves a slice before its end, and has given it back."""

    why: Stop | None
    """``None``: its time is up."""


class GivenUpBefore(GivenUp):
    """A person has given the item up, which failed with ``text`` before."""

    def __init__(self, text: str, attempts: int) -> None:
        super().__init__(Exception(text), attempts)
        self.text = text


class Asked(BaseException):
    """The current item, ``unit``, stops the run with ``why``; ``done`` is what was done before it."""

    def __init__(self, unit: Unit, why: Exception, done: Progress | None = None) -> None:
        super().__init__(unit, why, done)
        self.unit = unit
        self.why = why
        self.done = done


class ItemLoop:
    """Of one stage loop."""

    def __init__(
        self,
        stage_run: StageRun,
        declared: Definition,
        ctx: StageContext,
        slot: Slot,
        turn: Turn,
        committer: AsyncCommitter,
    ) -> None:
        self._stage_run = stage_run
        self._declared = declared
        self._ctx = ctx
        self._slot = slot
        self._turn = turn
        self._committer = committer
        self._ahead = BackgroundConnection()
        self.partial_item = PartialItem(ctx, must_stop=self.must_stop, committing=self._committing)
        self._reading: UnitReader | None = None
        self._process: item_types.Process | None = None
        self._item_timeout = item_timeout(declared)
        self._seconds = INTERVAL_SECONDS
        self.answers: Answers | None = None
        """To the questions about the slice in progress."""
        self._skipped: Mapping[str, Skipped] = {}
        self.worker = ""
        """Who works here, for the record of a question."""
        self._draw = allowances.of(stage_run)
        self._draw_size = DrawSize()
        self._check_should_stop = slot.check
        """(whether to stop before the next item, why). From memory; the worker's supervisor keeps it true."""

    def know(self, answers: Answers) -> None:
        """What people have answered about the slice that is worked through next."""
        self.answers = answers

    def read_ahead(self, work: LeasedSlice) -> None:
        """Read the first items of ``work``, which is worked through next."""
        self._reading = UnitReader(work, self._stage_run, self._ahead)

    def work_through(self, work: LeasedSlice, stage: AnyStage) -> Halt | None:
        """Work on what is left of ``work``. ``None`` if nothing is, or if it waits.

        The last checkpoint may still be in progress: ``settle`` tells what came of it.
        """
        self._slot.work[LIMIT] = self._item_timeout
        # After a crash the cursor must stand right before the culprit, should it kill again.
        interval = 0.0 if work.needs_care else stage.checkpoint_interval
        try:
            return self._pass(work, stage, interval)
        except CheckpointRefused as refused:
            return self._one_by_one(work, stage, refused, interval)
        finally:
            self._let_go()

    def settle(self, work: LeasedSlice, stage: AnyStage, forgo: Callable[[], None]) -> Halt | None:
        """Return when the last checkpoint of ``work``, which was worked through, stands.

        ``forgo`` is called before anything of it is done again, which may take longer than another lease lasts.
        """
        try:
            self._committer.wait()
        except CheckpointRefused as refused:
            forgo()
            try:
                return self._one_by_one(work, stage, refused, stage.checkpoint_interval)
            finally:
                self._let_go()
        return None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run ``coroutine`` on the event loop of the items; there is none where they are not async."""
        raise AssertionError

    def end(self) -> None:
        """End the event loop, if there is one."""

    def close(self) -> None:
        """Give the connections back."""
        self._committer.close()
        self._ahead.close()
        self.partial_item.close()

    def _let_go(self) -> None:
        """No item is in progress: a hook that comes next has neither state nor outputs."""
        self.partial_item.leave()
        self.partial_item.states = None

    def _one_by_one(
        self, work: LeasedSlice, stage: AnyStage, refused: CheckpointRefused, interval: float | None
    ) -> Halt | None:
        if interval == 0:
            raise refused
        self._ctx.logger.warning("%s Its items are committed one by one, to tell which of them it is.", refused)
        self._reading = None
        self._slot.note(loop_heartbeat.on(work))
        return self._pass(work, stage, interval=0.0)

    def _pass(self, work: LeasedSlice, stage: AnyStage, interval: float | None) -> Halt | None:
        try:
            return self._pass_over(work, stage, interval)
        except Asked as asked:
            if asked.done is not None and not asked.done.is_empty:
                self._committer.commit(work, asked.done)
            return Halt(self._ask(work, asked.unit.key, asked.why))

    def _ask(self, work: LeasedSlice, key: str, why: Exception, *, group_size: int | None = None) -> Stop:
        """Stop the run because of the current item; ``work`` is given back, or the item set apart from it."""
        self._committer.wait()
        self._slot.note(loop_heartbeat.on(work, is_ending=group_size is None))
        return asking.carry_out(self._stage_run, work, key, why, worker=self.worker, group_size=group_size)

    def _refuse_to_give_up(self, unit: Unit, error: BaseException, attempts: int) -> None:
        """Raise ``Asked`` if a person is to decide whether ``unit`` has failed."""
        if not self._declared.asks_when_exhausted or isinstance(error, GivenUpBefore):
            return
        exhausted = Exhausted(error.error if isinstance(error, GivenUp) else error, attempts)
        if not questions.is_skipped(self._stage_run, str(exhausted)):
            raise Asked(unit, exhausted)

    def _pass_over(self, work: LeasedSlice, stage: AnyStage, interval: float | None) -> Halt | None:
        reading, self._reading = self._reading or UnitReader(work, self._stage_run, self._ahead), None
        check_should_stop, monotonic, output_rows = self._check_should_stop, time.monotonic, store.output_rows
        process, ctx, at, most_bytes = (
            self._process_of(stage),
            self._ctx,
            self._slot.work,
            self._declared.max_item_bytes,
        )
        partial_item = self.partial_item
        partial_item.states = ItemStates(work, reading.prefix)
        prefix, is_grouped = reading.prefix, reading.is_grouped
        special = self._special(work, prefix)
        seconds = self._seconds if interval is None else interval
        if work.paced:
            check_should_stop = Pace(work.paced, check_should_stop).check
        if work.probes:
            seconds = 0.0  # whether the resource has answered is to be known after the first item
        number, look_at, has_waited, size = work.done, self._turn.look_at, False, 1
        done = Progress(cursor=work.cursor)
        at[ATTEMPT] = 1.0
        started = now = monotonic()
        pairs = self._permitted(work, reading)
        for key, given in pairs:
            should_stop, reason = check_should_stop()
            if should_stop or now >= look_at:
                if should_stop or self._turn.is_over():
                    return self._halt(work, done, started, reason)
                look_at, now = self._turn.look_at, monotonic()
            ctx.item_key = full = prefix + key
            if is_grouped:
                size = reading.size
            at[NUMBER] = number
            number += size
            try:
                if key in special:
                    rows = self._once_more(work, stage, full, given)
                else:
                    at[BEGUN] = now
                    rows = output_rows(full, process(given, ctx), most_bytes, partial_item)
            except BaseException as error:
                at[BEGUN] = 0.0
                unit = reading.unit(key, given)
                tried = work.overrun_attempts if key == work.overrun_key else 0
                try:
                    self._judge(work, stage, unit, error, tried + 1, done)
                except Interrupted:
                    return self._halt(work, done, started, self._slot.stop)
                except ASKS as why:
                    raise Asked(unit, why, timed(done, started)) from None
                except Asked as asked:
                    asked.done = timed(done, started)
                    raise
                except TryLater as later:
                    if (name := throttling.resource_of(self._declared, later)) is not None:
                        held = throttling.throttle(self._stage_run, full, name, later)
                        return self._halt(work, done, started, held)
                    self._committer.wait()
                    if not done.is_empty:
                        self._committer.commit(work, timed(done, started))
                    if not self._put_off(work, stage, unit, later, has_waited=has_waited):
                        return None
                    has_waited, number = True, work.done
                    done, started = Progress(cursor=work.cursor), (now := monotonic())
                    continue
            else:
                at[BEGUN] = 0.0
                if partial_item.is_touched:
                    rows = partial_item.ended(rows, done.staged)
                done.outputs += rows
                done.size += len(rows[0]) if len(rows) == 1 else sum(map(len, rows))
                done.processed += size
            has_waited = False
            done.cursor = reading.last_key if is_grouped else key
            now = monotonic()
            if now - started >= seconds or done.size >= MOST_BYTES:
                if self._slot.is_orphaned:
                    return self._halt(work, done, started, slot_table.ORPHANED)
                if seconds:
                    self._committer.begin(work, timed(done, started))
                else:
                    self._commit_alone(work, reading.unit(key, given), timed(done, started))
                if interval is None:
                    seconds = self._seconds = _seconds((now - started) / (done.processed + done.failed))
                else:
                    seconds = interval
                done, started, now = Progress(cursor=done.cursor), now, monotonic()
        if isinstance(pairs, PermittedItems) and pairs.is_cut:
            return self._halt(work, done, started, pairs.stop)
        if not done.is_empty:
            self._committer.begin(work, timed(done, started))
        return None

    def _permitted(self, work: LeasedSlice, reading: UnitReader) -> Iterable[tuple[str, Any]]:
        if self._draw is None:
            return reading.pairs
        return PermittedItems(self._draw, self._draw_size, work, reading.pairs, self._check_should_stop)

    def _halt(self, work: LeasedSlice, done: Progress, started: float, why: Stop | None) -> Halt:
        self._committer.commit(work, timed(done, started), release=True)
        return Halt(why)

    def _special(self, work: LeasedSlice, prefix: str) -> frozenset[str]:
        """The keys, without ``prefix``, of items that are not simply tried."""
        self._skipped = {}
        if self._declared.asks_when_exhausted and self.answers is not None:
            self._skipped = self.answers.skipped
        keys = {key.removeprefix(prefix) for key in self._skipped}
        return frozenset(keys | {work.overrun_key} if work.overrun_key else keys)

    def _once_more(self, work: LeasedSlice, stage: AnyStage, key: str, given: Any) -> list[bytes]:
        """Another attempt at an item that took too long in a loop before this one, or none if a person gave it up."""
        if self._skipped and (skipped := self._skipped.get(key)) is not None:
            raise GivenUpBefore(*skipped)
        tried = work.overrun_attempts
        if tried > self._declared.retries:
            raise GivenUp(TookTooLong("item_timeout", self._item_timeout), tried)
        return self._attempt(stage, key, given, tried + 1)

    def _anew(self, stage: AnyStage, unit: Unit, number: int) -> list[bytes]:
        return self._attempt(stage, unit.key, unit.reloaded(), number)

    def _attempt(self, stage: AnyStage, key: str, given: Any, number: int) -> list[bytes]:
        at = self._slot.work
        self.partial_item.restart()
        at[ATTEMPT], at[BEGUN] = number, time.monotonic()
        try:
            return store.output_rows(
                key, self._process_of(stage)(given, self._ctx), self._declared.max_item_bytes, self.partial_item
            )
        finally:
            at[BEGUN], at[ATTEMPT] = 0.0, 1.0

    def _process_of(self, stage: AnyStage) -> item_types.Process:
        if self._process is None:
            self._process = item_types.process_of(stage, installed_code.readers_of(self._stage_run))
        return self._process

    def _judge(
        self, work: LeasedSlice, stage: AnyStage, unit: Unit, error: BaseException, failed: int, done: Progress
    ) -> None:
        """Add to ``done`` what becomes of ``unit``, whose attempt ``failed`` ended with ``error``.

        Raises what is not its fault.
        """
        partial_item = self.partial_item
        try:
            if isinstance(error, GivenUp):
                partial_item.is_touched = True  # by an attempt in another loop, perhaps
                raise error
            rows = again(partial(self._anew, stage, unit), error, failed, stage, self._ctx, self._stop_now)
        except GivenUp as given_up:
            memory_faults.note(given_up.error, self._stage_run, work.node)
            try:
                self._refuse_to_give_up(unit, given_up, given_up.attempts)
            except Asked:
                partial_item.leave()
                raise
            if partial_item.is_touched:
                partial_item.given_up(done.staged)
            done.failures += failures_of(unit, given_up)
            done.failed += unit.size
        except BaseException:
            partial_item.leave()
            raise
        else:
            if partial_item.is_touched:
                rows = partial_item.ended(rows, done.staged)
            done.outputs += rows
            done.size += sum(map(len, rows))
            done.processed += unit.size

    def must_stop(self) -> bool:
        """Whether the item in progress is to stop at its next checkpoint. Not in an irreversible stage."""
        return not self._declared.irreversible and self._check_should_stop()[0]

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """The item in progress commits something, which is progress: its time starts again, and stops until then."""
        at, now = self._slot.work, time.monotonic()
        spent = now - at[BEGUN] if at[BEGUN] else None
        at[BEGUN] = 0.0
        try:
            yield
            spent = None if spent is None else 0.0
        finally:
            if spent is not None:
                at[BEGUN] = time.monotonic() - spent

    def _stop_now(self) -> Stop | None:
        return self._slot.stop

    def _commit_alone(self, work: LeasedSlice, unit: Unit, done: Progress) -> None:
        """Commit ``done``, which is of ``unit`` alone: what of it the database does not take is that item's fault."""
        try:
            self._committer.commit(work, done)
        except CheckpointRefused as refused:
            if done.failed:
                raise
            self._ctx.logger.warning("The outputs of item %s cannot be stored: %s", unit.key, refused.cause)
            self._refuse_to_give_up(unit, refused.cause, 1)
            done.outputs, done.processed, done.failed = [], 0, unit.size
            done.failures = unit.failures(refused.cause, 1)
            done.staged = dict.fromkeys(done.staged, 0)
            self._committer.commit(work, done)

    def _put_off(self, work: LeasedSlice, stage: AnyStage, unit: Unit, later: TryLater, *, has_waited: bool) -> bool:
        """Have ``unit`` wait, whose place is after the cursor of ``work``; whether ``work`` continues meanwhile."""
        self._ctx.logger.info("Item %s waits %.1f s: %s", unit.key, later.seconds, later)
        out = postponement.limit_exceeded(stage, work, later)
        if out is not None:
            self._refuse_to_give_up(unit, out, work.waits + 1)
            failures = unit.failures(out, work.waits + 1)
            done = Progress(cursor=unit.last_key, failed=unit.size, failures=failures, staged={unit.key: 0})
            self._committer.commit(work, done)
            return work.cursor != work.last_key
        if has_waited or work.waits or work.left <= unit.size:
            self._slot.note(loop_heartbeat.on(work, is_ending=True))
            postponement.postpone(self._stage_run, work, unit.key, later)
            return False
        postponement.postpone_alone(self._stage_run, work, unit.key, self._declared.group_size, later)
        return True


def failures_of(unit: Unit, given_up: GivenUp) -> list[Failure]:
    """What is kept of ``unit``, which was given up."""
    if isinstance(given_up, GivenUpBefore):
        return unit.given_up(given_up.text, given_up.attempts)
    return unit.failures(given_up.error, given_up.attempts)


def timed(done: Progress, started: float) -> Progress:
    """``done``, with the time since it was begun."""
    done.busy_seconds = time.monotonic() - started
    return done


def _seconds(of_an_item: float) -> float:
    return SHORT_ITEMS_SECONDS if of_an_item < SHORT_ITEM_SECONDS else INTERVAL_SECONDS
