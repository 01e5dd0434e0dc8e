"""The stage loop: one Celery task execution that leases slices of one stage and works item by item."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from functools import cached_property, partial
from typing import Any

from django.db import connection

from automation import (
    admission,
    announce,
    copying,
    definition,
    gate,
    hooks,
    installed,
    leases,
    lifecycle,
    loop_beat,
    loop_failures,
    patience,
)
from automation.aside import Aside
from automation.attempts import Fault, GivenUp, again, attempt, fault_of
from automation.checkpoint import Progress
from automation.committer import Committer
from automation.context import Interrupted, StageContext, TookTooLong
from automation.errors import CheckpointRefused, LeaseLost
from automation.files.fenced import FencedArtifacts
from automation.leases import NoRoom, Work, Worker
from automation.models import StageRun, WorkSlice
from automation.overruns import hook_timeout, item_timeout
from automation.pipeline import AnyStage, Payload, TryLater
from automation.recovery import commit_surely, release_surely
from automation.turns import Turn
from automation.units import Unit, units_of
from pause_manager import adapting, audit, gpus, log_context, manager, metrics, nodes, recycling, settling
from pause_manager.actor import SYSTEM
from pause_manager.stops import SHUTDOWN, Stop
from pause_manager.worker import local, slots
from pause_manager.worker.slots import ATTEMPT, BEGUN, LIMIT, NUMBER

logger = logging.getLogger("automation.stage_loop")

PROCESSED = metrics.counter("slackwater_items_processed_total", "Items that were done.", ("pipeline", "stage"))
FAILED = metrics.counter("slackwater_items_failed_total", "Items that were given up.", ("pipeline", "stage"))

Phase = WorkSlice.Phase

MOST_BYTES = 16 * 1024 * 1024
"""Outputs that wait for a checkpoint are committed when they are so large, however short a time it is."""

COUNT_SECONDS = 1.0
"""Between two counts of what has failed, where a share of it may."""


class Ending(StrEnum):
    """How a stage loop ended."""

    NOTHING_LEFT = "nothing left to lease"
    STOPPED = "stopped"
    NO_ROOM = "no room on this node"
    PROCESS_IS_SPENT = "its process has used GPUs, and another takes its place"
    TIME_IS_UP = "time is up"
    TRIED_ALONE = "an item was tried alone"
    FAILED = "failed"
    MAKES_ROOM = "another run has its turn"
    LEASE_LOST = "lease lost"


class StageLoop:
    """Leases slices of one running stage and works through them until a stop, the time limit, or nothing is left."""

    def __init__(self, stage_run: StageRun, worker: Worker) -> None:
        self.stage_run = stage_run
        self.run_row = stage_run.run
        self.worker = worker
        self.node = worker.node
        """What the machine was called when the last slice was leased."""
        self._declared = definition.of(stage_run)
        self._most_bytes = self._declared.max_item_bytes
        self._work: Work | None = None
        self._committer = Committer(self._committed)
        self._ahead = Aside()
        self._turn = Turn(stage_run, self._declared.queue)
        self._has_worked = False
        self._has_progressed = False
        self._isolation = ExitStack()
        self._has_succeeded = False
        self._counted_at = -COUNT_SECONDS
        self._ctx = StageContext(
            run_id=self.run_row.pk,
            stage_slug=stage_run.slug,
            params=installed.params_of(self.run_row),
            logger=logging.LoggerAdapter(
                logging.getLogger(f"automation.stage.{stage_run.slug}"),
                {"run": str(self.run_row.pk), "stage": stage_run.slug},
            ),
            artifacts=FencedArtifacts(self.run_row.pk, stage_run.slug, lambda: self._work),
            sleep=self._sleep,
            back_off=self._back_off,
            items=self._all_items,
        )
        self._item_timeout = item_timeout(self._declared)
        self._set_up = hooks.SetUp(self._ctx)
        here = gate.scopes_at_work(self.run_row, queue=self._declared.queue, node=None)
        self._slot = local.take_slot(here, loop_beat.between_slices(stage_run.pk))
        self._check_should_stop = self._slot.check
        """(whether to stop before the next item, why). From memory; the worker's supervisor keeps it true."""

    @cached_property
    def stage(self) -> AnyStage:
        """Made for the first slice: its GPUs are known by then."""
        with self._limited(hook_timeout(self._declared), self._tried + 1):
            return installed.make(self.run_row.pipeline, self.stage_run)

    @property
    def _tried(self) -> int:
        """How often what comes before the items of this slice, or is its hook, has taken too long in loops before."""
        return 0 if self._work is None or self._work.overrun_key else self._work.overrun_attempts

    @contextmanager
    def _limited(self, seconds: float, attempt: int = 1) -> Iterator[None]:
        """What is done within is no item, and may take so long."""
        at = self._slot.work
        at[LIMIT], at[NUMBER], at[ATTEMPT] = seconds, -1, attempt
        at[BEGUN] = time.monotonic()
        try:
            yield
        finally:
            at[BEGUN] = 0.0

    @property
    def scopes(self) -> list[str]:
        """Every scope whose holds reach it."""
        return gate.scopes_at_work(self.run_row, queue=self._declared.queue, node=self.node)

    def run(self) -> Ending:
        """Work until told to stop. Leaves no lease behind, whatever happens, unless the process is killed."""
        with log_context.bound(run=str(self.run_row.pk), stage=self.stage_run.slug):
            return self._run()

    def _run(self) -> Ending:
        try:
            if self._declared.isolate_gpus and gpus.is_spent():
                recycling.ask("CUDA was started in it, and work came whose GPUs are isolated")
                return Ending.PROCESS_IS_SPENT
            while True:
                should_stop, reason = self._check_should_stop()
                if should_stop:
                    return self._stopped(None, reason)
                if time.monotonic() >= self._turn.look_at and self._turn.is_over():
                    return self._out_of_time()
                try:
                    work = leases.claim(
                        self.stage_run.pk,
                        self.worker,
                        is_fresh=not self._has_worked,
                        room=None if self.run_row.ignores_capacity else self._room,
                        suits=self._suits,
                    )
                except NoRoom as full:
                    logger.info("%s finds no room here: %s", self.stage_run, full)
                    return Ending.NO_ROOM
                if work is None:
                    return Ending.NOTHING_LEFT
                self._slot.note(loop_beat.on(work))
                self._work, self.node = work, work.node
                if work.gpus and not self._ctx.gpus:
                    self._hand_over(work.gpus)
                if not self._has_worked:
                    metrics.guarded(settling.went_on)(self.scopes)
                self._has_worked = True
                announce.moved(self.run_row.scope)
                ending = self._work_through(work)
                self._work = None
                self._slot.note(loop_beat.between_slices(self.stage_run.pk))
                if ending is not None:
                    return ending
                if work.is_alone:
                    return Ending.TRIED_ALONE
        except LeaseLost as error:
            logger.warning("%s What was not committed is discarded.", error)
            return Ending.LEASE_LOST
        except gpus.CannotIsolate as error:
            logger.error("%s", error)
            if self._work is not None:
                self._note_ending(self._work)
                leases.release(self._work)
            return Ending.NO_ROOM
        except BaseException as error:
            if self._give_back(error) is not Fault.ITEM:
                raise
            return Ending.FAILED
        finally:
            self._work = None
            if self._has_progressed:
                metrics.guarded(loop_failures.forget)(self.stage_run.pk)
            self._committer.close()
            self._ahead.close()
            with self._limited(hook_timeout(self._declared)):
                self._set_up.take_down()
            self._isolation.close()
            self._slot.free()
            announce.changed([self.run_row.scope])

    def _work_through(self, work: Work) -> Ending | None:
        is_hook = work.phase != Phase.WORK
        if self._tried > self._declared.retries:
            what = f"{Phase(work.phase).label} failed" if is_hook else "it could not be made or set up"
            limit = hook_timeout(self._declared)
            return self._fail(work, f"{what}: {TookTooLong.__name__}: {TookTooLong('hook_timeout', limit)}")
        if is_hook:
            self._turn.begin()
            return self._run_hook(work)
        return self._work_items(work)

    def _work_items(self, work: Work) -> Ending | None:
        stage = self.stage
        # After a crash the cursor must stand right before the culprit, should it kill again.
        interval = 0.0 if work.needs_care else stage.checkpoint_interval
        with self._limited(hook_timeout(self._declared), self._tried + 1):
            self._set_up.of(stage)
        self._slot.work[LIMIT] = self._item_timeout
        self._turn.begin()
        try:
            return self._pass_over(work, interval)
        except CheckpointRefused as refused:
            if not interval:
                raise
            logger.warning("%s Its items are committed one by one, to tell which of them it is.", refused)
        self._slot.note(loop_beat.on(work))
        return self._pass_over(work, interval=0.0)

    def _pass_over(self, work: Work, interval: float) -> Ending | None:
        """Work on what is left of ``work``; ``None`` if nothing is, or if it waits."""
        done = Progress(cursor=work.cursor)
        at, number = self._slot.work, work.done
        look_at = self._turn.look_at
        started = checked = time.monotonic()
        has_waited = False
        for unit in units_of(work, self.stage_run, self._ahead):
            should_stop, reason = self._check_should_stop()
            if should_stop or checked >= look_at:
                if should_stop or self._turn.is_over():
                    self._commit(work, done, started, release=True)
                    return self._stopped(work, reason)
                look_at = self._turn.look_at
            at[NUMBER] = number
            number += unit.size
            try:
                self._do(unit, done, work)
            except Interrupted:
                self._commit(work, done, started, release=True)
                return self._stopped(work, self._slot.stop)
            except TryLater as later:
                self._committer.wait()
                if done.cursor != work.cursor:
                    self._commit(work, done, started)
                if not self._put_off(work, unit, later, has_waited=has_waited):
                    return None
                has_waited = True
                number = work.done
                done, started = Progress(cursor=work.cursor), time.monotonic()
                continue
            has_waited = False
            checked = time.monotonic()
            if checked - started >= interval or done.size >= MOST_BYTES:
                if self._slot.is_orphaned:
                    self._commit(work, done, started, release=True)
                    return self._stopped(work, slots.ORPHANED)
                if interval:
                    self._commit_behind(work, done, started)
                else:
                    self._commit_alone(work, unit, done, started)
                done, started = Progress(cursor=done.cursor), checked
        self._committer.wait()
        if done.cursor != work.cursor:
            self._commit(work, done, started)
        return None

    def _put_off(self, work: Work, unit: Unit, later: TryLater, *, has_waited: bool) -> bool:
        """Have ``unit`` wait, whose place is after the cursor of ``work``; whether ``work`` goes on meanwhile."""
        self._ctx.logger.info("Item %s waits %.1f s: %s", unit.key, later.seconds, later)
        out = patience.exhausted(self.stage, work, later)
        if out is not None:
            failures = unit.failures(out, work.waits + 1)
            done = Progress(cursor=unit.last_key, failed=unit.size, failures=failures)
            self._commit(work, done, time.monotonic())
            return not self._is_finished(work)
        if has_waited or work.waits or work.left <= unit.size:
            self._note_ending(work)
            patience.wait(self.stage_run, work, unit.key, later)
            return False
        patience.set_apart(self.stage_run, work, unit.key, self._declared.group_size, later)
        return True

    @staticmethod
    def _is_finished(work: Work) -> bool:
        return work.cursor == work.last_key

    def _do(self, unit: Unit, done: Progress, work: Work) -> None:
        """Work on one item (or group) and add what came of it to ``done``; never raises for a fault of the item."""
        self._ctx.item_key = unit.key
        at = self._slot.work
        tried = work.overrun_attempts if work.overrun_key and unit.key == unit.prefix + work.overrun_key else 0
        try:
            try:
                if tried > self._declared.retries:
                    raise GivenUp(TookTooLong("item_timeout", self._item_timeout), tried)
                at[ATTEMPT], at[BEGUN] = tried + 1, time.monotonic()
                rows = copying.output_rows(unit.key, self.stage.process(unit.given, self._ctx), self._most_bytes)
            except GivenUp:
                raise
            except BaseException as error:
                at[BEGUN] = 0.0
                rows = again(partial(self._anew, unit), error, tried + 1, self.stage, self._ctx, self._stop_now)
            finally:
                at[BEGUN] = 0.0
            done.outputs += rows
            done.size += sum(map(len, rows))
            done.processed += unit.size
        except GivenUp as given_up:
            self._note_if_out_of_memory(given_up.error)
            done.failures += unit.failures(given_up.error, given_up.attempts)
            done.failed += unit.size
        done.cursor = unit.last_key

    def _anew(self, unit: Unit, number: int) -> list[bytes]:
        at = self._slot.work
        at[ATTEMPT], at[BEGUN] = number, time.monotonic()
        try:
            return copying.output_rows(unit.key, self.stage.process(unit.anew(), self._ctx), self._most_bytes)
        finally:
            at[BEGUN] = 0.0

    def _stop_now(self) -> Stop | None:
        return self._slot.stop

    def _commit_alone(self, work: Work, unit: Unit, done: Progress, started: float) -> None:
        """Commit ``done``, which is of ``unit`` alone: what of it the database does not take is that item's fault."""
        try:
            self._commit(work, done, started)
        except CheckpointRefused as refused:
            if done.failed:
                raise
            self._ctx.logger.warning("The outputs of item %s cannot be stored: %s", unit.key, refused.cause)
            done.outputs, done.processed, done.failed = [], 0, unit.size
            done.failures = unit.failures(refused.cause, 1)
            self._commit(work, done, started)

    def _commit(
        self,
        work: Work,
        done: Progress,
        started: float,
        *,
        release: bool = False,
    ) -> None:
        """Commit ``done`` after whatever is under way, and return when it stands."""
        self._committer.wait()
        done.busy_seconds = time.monotonic() - started
        if release or done.cursor == work.last_key:
            self._note_ending(work)
        commit_surely(work, done, release=release)
        self._committed(done)

    def _commit_behind(self, work: Work, done: Progress, started: float) -> None:
        """Commit ``done`` while the loop goes on; a lost lease is noticed at the next checkpoint."""
        done.busy_seconds = time.monotonic() - started
        if done.cursor == work.last_key:
            self._note_ending(work)
        self._committer.begin(work, done)

    def _committed(self, done: Progress) -> None:
        self._has_progressed = self._has_progressed or done.processed + done.failed > 0
        announce.moved(self.run_row.scope)
        PROCESSED.add(done.processed, pipeline=self.run_row.pipeline, stage=self.stage_run.slug)
        FAILED.add(done.failed, pipeline=self.run_row.pipeline, stage=self.stage_run.slug)
        self._has_succeeded |= done.processed > 0
        if done.failed and self._is_time_to_count():
            lifecycle.fail_if_too_many(self.stage_run, self._declared.max_failures, self._declared.group_size)

    def _is_time_to_count(self) -> bool:
        """Always for a limit in items, or while nothing succeeds; else each second: the count reads all slices."""
        if not self._has_succeeded or not isinstance(self._declared.max_failures, float):
            return True
        now = time.monotonic()
        is_due = now - self._counted_at >= COUNT_SECONDS
        if is_due:
            self._counted_at = now
        return is_due

    def _run_hook(self, work: Work) -> Ending | None:
        """Run ``prepare`` or ``finish``. A fault in it fails the run, after the declared retries."""
        started = time.monotonic()
        self._ctx.item_key = Phase(work.phase).label
        stage, limit = self.stage, hook_timeout(self._declared)

        def once(number: int) -> None:
            with self._limited(limit, number):
                if work.phase == Phase.PREPARE:
                    with hooks.keeps_nothing(stage):
                        stage.prepare(self._ctx)
                else:
                    stage.finish(self._ctx, (payload for _, payload in self._read(self.stage_run.pk)))

        failure: BaseException
        try:
            attempt(once, stage, self._ctx, self._stop_now, tried=self._tried)
            self._note_ending(work)
            leases.finish_hook(work, time.monotonic() - started)
            self._has_progressed = True
            return None
        except Interrupted:
            self._note_ending(work)
            leases.release(work)
            return self._stopped(work, self._slot.stop)
        except TryLater as later:
            out = patience.exhausted(stage, work, later)
            if out is None:
                self._note_ending(work)
                patience.wait(self.stage_run, work, self._ctx.item_key, later)
                return None
            failure = out
        except GivenUp as given_up:
            self._note_if_out_of_memory(given_up.error)
            failure = given_up.error
        self._ctx.logger.error("%s failed.", self._ctx.item_key, exc_info=failure)
        return self._fail(work, f"{self._ctx.item_key} failed: {type(failure).__name__}: {failure}")

    def _fail(self, work: Work, why: str) -> Ending:
        # The run ends before the slice is free, or another loop would take it and try again.
        lifecycle.fail(self.run_row.pk, reason=f"{self._declared.title}: {why}")
        self._note_ending(work)
        leases.release(work)
        return Ending.STOPPED

    def _stopped(self, work: Work | None, reason: Stop | None) -> Ending:
        """Write the line that says where and why work stopped; the slice, if there was one, has been given back."""
        if reason is None:
            return self._out_of_time()
        if work is None and reason.code == "finished":
            return Ending.STOPPED  # A late message: nothing was at work, nothing has stopped.
        if not self._has_worked and nodes.held_because(self.node) is not None:
            return Ending.NO_ROOM  # Sent on from here, the message might come back at once.
        after = f" after item {work.cursor}" if work is not None and work.cursor else ""
        audit.record(
            "stopped",
            scope=self.run_row.scope,
            actor=SYSTEM,
            reason=f"{self.stage_run.slug}: stopped{after}: {reason.sentence}",
            figures={
                "code": reason.code,
                "stage": self.stage_run.slug,
                "slice": work.slice_id if work is not None else None,
                "cursor": work.cursor if work is not None else None,
                "worker": self.worker.owner,
            },
        )
        return Ending.STOPPED

    def _out_of_time(self) -> Ending:
        return Ending.MAKES_ROOM if self._turn.is_made_room else Ending.TIME_IS_UP

    def _give_back(self, error: BaseException) -> Fault:
        """Something other than an item has ended the loop; whose fault it was.

        What is nobody's leaves no trace but an expired lease. All else is told, and counted by stage.
        """
        self._note_if_out_of_memory(error)
        fault = fault_of(error, self._slot.stop)
        if fault is Fault.LATER:
            fault = Fault.ITEM  # There is no item that could wait.
        work, self._work = self._work, None
        self._committer.close()
        try:
            connection.close_if_unusable_or_obsolete()
            if work is not None:
                self._note_ending(work)
                # Celery's own time limit is no stop of ours: nobody may go on with such an item for ever unseen.
                is_expiry = fault is Fault.OURS and isinstance(error, Exception)
                release_surely(work, is_expiry=is_expiry, is_hurried=lambda: self._slot.stop == SHUTDOWN)
            if fault is Fault.ITEM:
                logger.error("A loop of %s failed.", self.stage_run, exc_info=error)
                self._count(error)
        except Exception:
            logger.exception("What ended a loop of %s could not be told; its lease runs out.", self.stage_run)
        return fault

    def _count(self, error: BaseException) -> None:
        loop_failures.record(
            self.stage_run,
            error,
            worker=self.worker.owner,
            retries=self._declared.loop_retries,
            has_progressed=self._has_progressed,
        )
        self._has_progressed = False

    def _note_if_out_of_memory(self, error: BaseException) -> None:
        if adapting.is_out_of_memory(error):
            adapting.note_out_of_memory(
                self.node,
                reason=f"A loop of {self.stage_run.slug} ran out of memory: {type(error).__name__}: {error}"[:500],
                figures={
                    "stage": self.stage_run.slug,
                    "run": str(self.run_row.pk),
                    "needs": asdict(self._declared.needs),
                },
            )

    def _note_ending(self, work: Work) -> None:
        """The slice is about to be given back: whoever beats for it and finds it gone has lost nothing."""
        self._slot.note(loop_beat.on(work, is_ending=True))

    def _sleep(self, seconds: float) -> None:
        self._wait(seconds, is_interruptible=not self.stage.irreversible)

    def _back_off(self, seconds: float) -> None:
        """Between two tries nothing is at work, not even in an irreversible stage."""
        self._wait(seconds, is_interruptible=True)

    def _wait(self, seconds: float, *, is_interruptible: bool) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if is_interruptible and self._check_should_stop()[0]:
                raise Interrupted
            if self._slot.is_overdue:
                is_item = self._slot.work[NUMBER] >= 0
                raise TookTooLong("item_timeout" if is_item else "hook_timeout", self._slot.work[LIMIT])
            time.sleep(min(left, 0.05))

    def _own_gpus(self) -> list[str] | None:
        # The stage may have loaded what it works with: it stays on the cards that it has.
        return [gpu.uuid for gpu in self._ctx.gpus] or None

    def _suits(self, node: str, ids: Sequence[str]) -> bool:
        return manager.suits_here(node, ids, needs=self._declared.needs, among=self._own_gpus())

    def _room(self, node: str) -> Sequence[str]:
        run = self.run_row
        return admission.room_here(
            node,
            self._declared.needs,
            run.pipeline,
            among=self._own_gpus(),
            run_id=run.pk,
            goes_on=self._has_worked,
        )

    def _hand_over(self, ids: Sequence[str]) -> None:
        sample = nodes.latest(self.node)
        self._ctx.gpus = gpus.given(ids, sample.view if sample is not None else None)
        if self._declared.isolate_gpus:
            self._isolation.enter_context(gpus.isolated(self._ctx.gpus))

    def _all_items(self) -> Iterator[Payload]:
        slugs = self._declared.sources
        rows = dict(StageRun.objects.filter(run=self.run_row, slug__in=slugs).values_list("slug", "pk"))
        for slug in slugs:
            yield from (payload for _, payload in self._read(rows[slug]))

    @staticmethod
    def _read(made_by: int) -> Iterator[tuple[str, dict[str, Any]]]:
        return copying.read(made_by)
