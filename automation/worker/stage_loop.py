"""The stage loop: one Celery task execution that leases slices of one stage and works item by item."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Any

from django.db import connection

from automation import dispatch, gate, leases
from automation.dispatch import admission
from automation.dispatch.turns import Turn
from automation.errors import LeaseLost, NoRoom
from automation.files.fenced import FencedArtifacts
from automation.files.storage import StorageAway
from automation.gate import installed_code
from automation.items import store
from automation.items.answers import SETUP, Answers
from automation.items.leased_slice import LeasedSlice
from automation.leases import loop_heartbeat, stops
from automation.leases.checkpoint import Progress
from automation.leases.committing import AsyncCommitter, release_with_retry
from automation.leases.holders import Worker
from automation.models import StageRun, WorkSlice
from automation.pipeline import AnyStage, Payload, TryLater, definition, hooks
from automation.pipeline.context import Interrupted, StageContext, TookTooLong
from automation.reports import progress_notifier
from automation.runs import failing, loop_failures
from automation.runs.questions import Kind
from automation.worker import asking, memory_faults, postponement, throttling
from automation.worker.asking import ASKS, Exhausted
from automation.worker.async_loop import AsyncItemLoop
from automation.worker.attempts import Fault, GivenUp, attempt, fault_of
from automation.worker.item_loop import Halt, ItemLoop
from automation.worker.item_timeouts import hook_timeout
from automation.worker.pace import PACED
from pause_manager import manager, nodes, resources
from pause_manager.actor import SYSTEM
from pause_manager.holds import milestones
from pause_manager.holds.stops import SHUTDOWN, Stop
from pause_manager.observability import log_context, metrics
from pause_manager.slots import gpus, recycling, standalone
from pause_manager.slots.slot_table import ATTEMPT, BEGUN, LIMIT, NUMBER

logger = logging.getLogger("automation.worker.stage_loop")

PROCESSED = metrics.counter("slackwater_items_processed_total", "Items that were processed.", ("pipeline", "stage"))
FAILED = metrics.counter("slackwater_items_failed_total", "Items that failed for good.", ("pipeline", "stage"))

Phase = WorkSlice.Phase

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
    PACED = "a resource takes no more starts for now"
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
        self._work: LeasedSlice | None = None
        self._next_work: LeasedSlice | None = None
        """Leased while the last checkpoint of ``_work`` runs; nothing of it is begun before that one stands."""
        self._is_early = self._declared.concurrency is None and not self._declared.needs.gpus
        """Whether it may lease a slice before the one before it has ended: not where two would be one too many."""
        self._turn = Turn(stage_run, self._declared.queue)
        self._has_worked = False
        self._has_progressed = False
        self._isolation = ExitStack()
        self._has_succeeded = False
        self._counted_at = -COUNT_SECONDS
        self._ctx = StageContext(
            run_id=self.run_row.pk,
            stage_slug=stage_run.slug,
            params=installed_code.params_of(self.run_row),
            logger=logging.LoggerAdapter(
                logging.getLogger(f"automation.stage.{stage_run.slug}"),
                {"run": str(self.run_row.pk), "stage": stage_run.slug},
            ),
            artifacts=FencedArtifacts(self.run_row.pk, stage_run.slug, lambda: self._work),
            sleep=self._sleep,
            back_off=self._back_off,
            items=self._all_items,
            should_stop=lambda: self._items.must_stop(),
            checkpoint=lambda state: self._items.partial_item.checkpoint(state),
            state=lambda: self._items.partial_item.state(),
            answers=lambda key: self._items.answers.of(key) if self._items.answers is not None else {},
        )
        self._set_up = hooks.LoopSetup(self._ctx, lambda coroutine: self._items.run(coroutine))
        here = gate.covering_scopes(self.run_row, self._declared, node=None)
        self._slot = standalone.take_slot(here, loop_heartbeat.between_slices(stage_run.pk))
        self._check_should_stop = self._slot.check
        """(whether to stop before the next item, why). From memory; the worker's supervisor keeps it true."""
        self._committer = AsyncCommitter(self._slot, self._committed)
        make = AsyncItemLoop if installed_code.is_async(stage_run) else ItemLoop
        self._items = make(stage_run, self._declared, self._ctx, self._slot, self._turn, self._committer)
        self._items.worker = worker.owner

    @cached_property
    def stage(self) -> AnyStage:
        """Made for the first slice: its GPUs are known by then."""
        with self._limited(hook_timeout(self._declared), self._tried + 1):
            return installed_code.make(self.run_row.pipeline, self.stage_run)

    @property
    def _tried(self) -> int:
        """How often what comes before the items of this slice, or is its hook, has taken too long in loops before."""
        return 0 if self._work is None or self._work.overrun_key else self._work.overrun_attempts

    @contextmanager
    def _limited(self, seconds: float, attempt: int = 1) -> Iterator[None]:
        """What is done within is not an item, and may take so long."""
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
        return gate.covering_scopes(self.run_row, self._declared, node=self.node)

    def run(self) -> Ending:
        """Work until told to stop. Leaves no lease behind, whatever happens, unless the process is killed."""
        with log_context.bound(run=str(self.run_row.pk), stage=self.stage_run.slug):
            return self._run()

    def _run(self) -> Ending:
        try:
            if self._declared.isolate_gpus and gpus.has_started_cuda():
                recycling.request_replacement("CUDA was started in it, and work came whose GPUs are isolated")
                return Ending.PROCESS_IS_SPENT
            while True:
                should_stop, reason = self._check_should_stop()
                is_due = should_stop or time.monotonic() >= self._turn.look_at
                if is_due and (ending := self._settle()) is not None:
                    return ending
                if should_stop:
                    return self._stopped(None, reason)
                if is_due and self._turn.is_over():
                    return self._out_of_time()
                try:
                    work = self._lease()
                except NoRoom as full:
                    logger.info("%s finds no room here: %s", self.stage_run, full)
                    return Ending.NO_ROOM
                if isinstance(work, Ending):
                    return work
                if not self._has_worked:
                    metrics.guarded(milestones.note_work_resumed)(self.scopes)
                self._has_worked = True
                progress_notifier.publish_progress(self.run_row.scope)
                ending = self._work_through(work)
                if ending is None and work.is_alone:
                    ending = self._settle() or Ending.TRIED_ALONE
                if ending is not None:
                    return ending
        except LeaseLost as error:
            logger.warning("%s What was not committed is discarded.", error)
            self._forgo()
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
            self._items.close()
            self._slot.note(loop_heartbeat.between_slices(self.stage_run.pk))  # what hangs from now on is no slice's
            with self._limited(hook_timeout(self._declared)):
                self._set_up.take_down()
                self._items.end()
            self._isolation.close()
            self._slot.free()
            progress_notifier.publish([self.run_row.scope])

    def _lease(self) -> LeasedSlice | Ending:
        """The next slice, once the one before it has ended: most often that is in progress while this one is leased."""
        if self._is_early and self._committer.is_busy:
            self._lease_early()
        ending = self._settle()
        if ending is not None:
            self._forgo()
            return ending
        work, self._next_work = self._next_work, None
        if work is None:
            work = self._claim()
        if work is None:
            return Ending.NOTHING_LEFT
        self._work, self.node = work, work.node
        self._items.know(Answers(work, self.stage_run))
        self._slot.note(loop_heartbeat.on(work))
        if work.gpus and not self._ctx.gpus:
            self._hand_over(work.gpus)
        return work

    def _lease_early(self) -> None:
        try:
            self._next_work = work = self._claim()
        except NoRoom:
            # The slice that ends counts as well, and will again.
            self._is_early = False
            return
        if work is not None:
            self._slot.note(loop_heartbeat.on(work))
            if work.phase == Phase.WORK:
                self._items.read_ahead(work)

    def _claim(self) -> LeasedSlice | None:
        return leases.claim(
            self.stage_run.pk,
            self.worker,
            is_fresh=not self._has_worked,
            room=None if self.run_row.ignores_capacity else self._room,
            suits=self._suits,
        )

    def _settle(self) -> Ending | None:
        """Return when the last checkpoint of the slice that was worked through stands."""
        work = self._work
        ending = None
        if work is not None and self._committer.is_busy:
            ending = self._halted(work, self._items.settle(work, self.stage, self._forgo))
        self._work = None
        if ending is None and self._next_work is None:
            self._slot.note(loop_heartbeat.between_slices(self.stage_run.pk))
        return ending

    def _forgo(self) -> None:
        """Give back the slice that was leased early."""
        work, self._next_work = self._next_work, None
        if work is not None:
            self._release(work)

    def _release(self, work: LeasedSlice, *, is_expiry: bool = False) -> None:
        self._note_ending(work)
        release_with_retry(work, is_expiry=is_expiry, is_hurried=lambda: self._slot.stop == SHUTDOWN)

    def _work_through(self, work: LeasedSlice) -> Ending | None:
        is_hook = work.phase != Phase.WORK
        if self._tried > self._declared.retries:
            what = f"{Phase(work.phase).label} failed" if is_hook else "it could not be made or set up"
            self._ctx.item_key = Phase(work.phase).label if is_hook else SETUP
            return self._fail(work, f"{what}: ", TookTooLong("hook_timeout", hook_timeout(self._declared)), self._tried)
        if is_hook:
            self._turn.begin()
            return self._run_hook(work)
        return self._work_items(work)

    def _work_items(self, work: LeasedSlice) -> Ending | None:
        stage = self.stage
        try:
            with self._limited(hook_timeout(self._declared), self._tried + 1):
                self._ctx.item_key = SETUP
                self._set_up.of(stage)
        except ASKS as asked:
            return self._asked(work, SETUP, asked)
        except StorageAway as away:
            # Not the stage's fault, as other errors of a set-up are: the slice waits as it is.
            self._note_ending(work)
            postponement.postpone(self.stage_run, work, "setup", away)
            return Ending.FAILED
        self._turn.begin()
        return self._halted(work, self._items.work_through(work, stage))

    def _halted(self, work: LeasedSlice, halt: Halt | None) -> Ending | None:
        return None if halt is None else self._stopped(work, halt.why)

    def _asked(self, work: LeasedSlice, key: str, asked: Exception) -> Ending:
        """Stop the run because of a hook, which asks for it."""
        self._note_ending(work)
        return self._stopped(work, asking.carry_out(self.stage_run, work, key, asked, worker=self.worker.owner))

    def _stop_now(self) -> Stop | None:
        return self._slot.stop

    def _committed(self, done: Progress) -> None:
        self._has_progressed = self._has_progressed or done.processed + done.failed > 0
        progress_notifier.publish_progress(self.run_row.scope)
        PROCESSED.add(done.processed, pipeline=self.run_row.pipeline, stage=self.stage_run.slug)
        FAILED.add(done.failed, pipeline=self.run_row.pipeline, stage=self.stage_run.slug)
        self._has_succeeded |= done.processed > 0
        if done.processed and self._work is not None and self._work.probes:
            metrics.guarded(self._tell_answered)(self._work)
        if done.failed and self._is_time_to_count():
            failing.fail_if_too_many(self.stage_run, self._declared.max_failures, self._declared.group_size)

    def _tell_answered(self, work: LeasedSlice) -> None:
        """The resources that ``work`` was the first to ask again have answered: others may follow."""
        names, work.probes = work.probes, ()
        if resources.answered(names):
            dispatch.dispatch([self.stage_run.pk])

    def _is_time_to_count(self) -> bool:
        """Always for a limit in items, or while nothing succeeds; else each second: the count reads all slices."""
        if not self._has_succeeded or not isinstance(self._declared.max_failures, float):
            return True
        now = time.monotonic()
        is_due = now - self._counted_at >= COUNT_SECONDS
        if is_due:
            self._counted_at = now
        return is_due

    def _run_hook(self, work: LeasedSlice) -> Ending | None:
        """Run ``prepare`` or ``finish``. A fault in it fails the run, after the declared retries."""
        started = time.monotonic()
        self._ctx.item_key = Phase(work.phase).label
        stage, limit = self.stage, hook_timeout(self._declared)

        def once(number: int) -> None:
            with self._limited(limit, number):
                if work.phase == Phase.PREPARE:
                    with hooks.without_assignment(stage):
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
            if (name := throttling.resource_of(self._declared, later)) is not None:
                why = throttling.throttle(self.stage_run, self._ctx.item_key, name, later)
                self._note_ending(work)
                leases.release(work)
                return self._stopped(work, why)
            out = postponement.limit_exceeded(stage, work, later)
            if out is None:
                self._note_ending(work)
                postponement.postpone(self.stage_run, work, self._ctx.item_key, later)
                return None
            failure, tries = out, work.waits + 1
        except ASKS as asked:
            return self._asked(work, self._ctx.item_key, asked)
        except GivenUp as given_up:
            memory_faults.note(given_up.error, self.stage_run, self.node)
            failure, tries = given_up.error, given_up.attempts
        self._ctx.logger.error("%s failed.", self._ctx.item_key, exc_info=failure)
        return self._fail(work, f"{self._ctx.item_key} failed: ", failure, tries)

    def _fail(self, work: LeasedSlice, what: str, error: BaseException, tries: int) -> Ending:
        if self._declared.asks_when_exhausted:
            return self._asked(work, self._ctx.item_key, Exhausted(error, tries, kind=Kind.HOOK))
        why = f"{what}{type(error).__name__}: {error}"
        # The run ends before the slice is free, or another loop would take it and try again.
        failing.fail(self.run_row.pk, reason=f"{self._declared.title}: {why}")
        self._note_ending(work)
        leases.release(work)
        return Ending.STOPPED

    def _stopped(self, work: LeasedSlice | None, reason: Stop | None) -> Ending:
        """Write the line that says where and why work stopped; the slice, if there was one, has been given back."""
        if reason is None:
            return self._out_of_time()
        if reason.code == PACED:
            return Ending.PACED
        if work is None and reason.code == "finished":
            return Ending.STOPPED  # A late message: nothing was running, nothing has stopped.
        if not self._has_worked and nodes.held_because(self.node) is not None:
            return Ending.NO_ROOM  # Sent on from here, the message might come back at once.
        stops.record(self.stage_run, work, reason, worker=self.worker.owner, actor=SYSTEM)
        return Ending.STOPPED

    def _out_of_time(self) -> Ending:
        return Ending.MAKES_ROOM if self._turn.is_made_room else Ending.TIME_IS_UP

    def _give_back(self, error: BaseException) -> Fault:
        """Something other than an item has ended the loop; whose fault it was.

        What is nobody's leaves no trace but an expired lease. All else is told, and counted by stage.
        """
        memory_faults.note(error, self.stage_run, self.node)
        fault = fault_of(error, self._slot.stop)
        if fault is Fault.LATER:
            fault = Fault.ITEM  # No item could wait.
        work, self._work = self._work, None
        self._committer.close()
        try:
            connection.close_if_unusable_or_obsolete()
            if work is not None:
                # Celery's own time limit is no stop of ours: nobody may continue such an item endlessly and unseen.
                self._release(work, is_expiry=fault is Fault.OURS and isinstance(error, Exception))
            self._forgo()
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

    def _note_ending(self, work: LeasedSlice) -> None:
        """The slice is about to be given back: a heartbeat that finds it gone has lost nothing."""
        self._slot.note(loop_heartbeat.on(work, is_ending=True))

    def _sleep(self, seconds: float) -> None:
        self._wait(seconds, is_interruptible=not self.stage.irreversible)

    def _back_off(self, seconds: float) -> None:
        """Between two tries nothing is running, not even in an irreversible stage."""
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
        self._ctx.gpus = gpus.assigned(ids, sample.view if sample is not None else None)
        if self._declared.isolate_gpus:
            self._isolation.enter_context(gpus.isolated(self._ctx.gpus))

    def _all_items(self) -> Iterator[Payload]:
        slugs = self._declared.sources
        rows = dict(StageRun.objects.filter(run=self.run_row, slug__in=slugs).values_list("slug", "pk"))
        found = (payload for slug in slugs for _, payload in self._read(rows[slug]))
        yield from islice(found, self._declared.max_items)

    @staticmethod
    def _read(made_by: int) -> Iterator[tuple[str, dict[str, Any]]]:
        return store.read(made_by)
