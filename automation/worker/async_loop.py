"""The item loop of a stage whose ``process`` is async: several items at once; the cursor passes only what is done."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

from automation import leases
from automation.gate import installed_code
from automation.items.answers import Answers
from automation.items.background_connection import BackgroundConnection
from automation.items.leased_slice import LeasedSlice
from automation.items.partial_items import ItemStates
from automation.items.units import UnitReader
from automation.leases.checkpoint import Progress
from automation.pipeline import AnyStage, TryLater
from automation.pipeline.context import Interrupted
from automation.worker import memory_faults, throttling
from automation.worker.asking import ASKS
from automation.worker.async_items import BUFFER, AsyncItems, EventLoop, Flight
from automation.worker.attempts import GivenUp
from automation.worker.item_loop import MOST_BYTES, Asked, GivenUpBefore, Halt, ItemLoop, failures_of, timed
from automation.worker.pace import LOOK_SECONDS, Pace, stop_of
from automation.worker.permitted_items import PermittedItems
from pause_manager.resources.limits import SOON_SECONDS
from pause_manager.slots import slot_table


class AsyncItemLoop(ItemLoop):
    """Of one stage loop, which must call ``end`` once the stage is taken down."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._events = EventLoop()
        self._state_connection = BackgroundConnection()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._events.run(coroutine)

    def know(self, answers: Answers) -> None:
        answers.load()  # on the event loop they cannot be read
        super().know(answers)

    def close(self) -> None:
        super().close()
        self._state_connection.close()

    def end(self) -> None:
        self._events.close()

    def _pass_over(self, work: LeasedSlice, stage: AnyStage, interval: float | None) -> Halt | None:
        reading, self._reading = self._reading or UnitReader(work, self._stage_run, self._ahead), None
        states = ItemStates(work, reading.prefix)
        states.load()  # on the event loop it cannot be read
        self._special(work, reading.prefix)
        items = AsyncItems(
            self._events,
            stage,
            self._ctx,
            self._slot,
            states,
            readers=installed_code.readers_of(self._stage_run),
            background=self._state_connection,
            limit=self._item_timeout,
            most_bytes=self._declared.max_item_bytes,
            must_stop=self.must_stop,
        )
        try:
            return self._work(work, stage, interval, reading, items)
        finally:
            items.abandon()

    def _work(
        self, work: LeasedSlice, stage: AnyStage, interval: float | None, reading: UnitReader, items: AsyncItems
    ) -> Halt | None:
        # Where the cursor must say which item is to blame, there is one at a time.
        is_one = work.needs_care or (interval == 0 and stage.checkpoint_interval != 0)
        most = 1 if is_one else min(self._declared.in_flight, work.places or self._declared.in_flight)
        seconds = self._seconds if interval is None else interval
        if work.probes:
            seconds = 0.0
        pace = Pace(work.paced, self._check_should_stop) if work.paced else None
        done, started = Progress(cursor=work.cursor), time.monotonic()
        number, look_at = work.done, self._turn.look_at
        permitted = self._permitted(work, reading)
        pairs = iter(permitted)
        is_over = must_stop = has_waited = False
        why = pair = None
        while True:
            should_stop, reason = self._check_should_stop()
            if not must_stop and (should_stop or time.monotonic() >= look_at):
                must_stop, why = should_stop or self._turn.is_over(), reason
                look_at = self._turn.look_at
            waits = 0.0
            while not (must_stop or is_over) and self._has_place(items, most):
                if pair is None and (pair := next(pairs, None)) is None:
                    is_over = True
                    if isinstance(permitted, PermittedItems) and permitted.is_cut:
                        must_stop, why = True, permitted.stop
                    break
                if pace is not None:
                    waits, name = pace.wait()
                    if waits > SOON_SECONDS and not items.flights:
                        must_stop, why = True, stop_of(name)
                    if waits:
                        break
                unit = reading.unit(*pair)
                tried = work.overrun_attempts if work.overrun_key and pair[0] == work.overrun_key else 0
                skipped = self._skipped.get(unit.key)
                items.start(unit, number, tried, GivenUpBefore(*skipped) if skipped else None)
                number += unit.size
                pair = None
            if not items.flights:
                if waits and not must_stop:
                    time.sleep(min(waits, LOOK_SECONDS))
                    continue
                break
            items.run()
            while items.flights and items.flights[0].is_settled:
                flight = items.flights[0]
                self._ask_if_exhausted(flight)
                if isinstance(flight.error, ASKS):
                    if items.at_work:
                        break  # what comes after it may be done, and is kept
                    items.flights.popleft()
                    self._committer.wait()
                    if not done.is_empty:
                        self._committer.commit(work, timed(done, started))
                    is_last = not items.flights
                    apart = None if is_last else self._declared.group_size
                    must_stop, why = True, self._ask(work, flight.unit.key, flight.error, group_size=apart)
                    if is_last:
                        return Halt(why)
                    number -= flight.unit.size
                    for other in items.flights:
                        other.number -= flight.unit.size
                    done, started = Progress(cursor=work.cursor), time.monotonic()
                    continue
                if isinstance(flight.error, TryLater):
                    if items.at_work:
                        break  # what comes after it may be done, and then does not wait with it
                    items.flights.popleft()
                    resource = throttling.resource_of(self._declared, flight.error)
                    if resource is not None:
                        must_stop = True
                        why = throttling.throttle(self._stage_run, flight.unit.key, resource, flight.error)
                    self._committer.wait()
                    if not done.is_empty:
                        self._committer.commit(work, timed(done, started))
                    is_any_done = any(one.error is None for one in items.flights)
                    before = work.done
                    if resource is not None and not is_any_done:
                        items.abandon()
                        return self._halt(work, Progress(cursor=work.cursor), time.monotonic(), why)
                    if resource is not None:
                        leases.split_off(work, self._declared.group_size)
                    elif not self._put_off(
                        work, stage, flight.unit, flight.error, has_waited=has_waited and not is_any_done
                    ):
                        return None
                    set_apart = flight.unit.size - (work.done - before)
                    number -= set_apart
                    for other in items.flights:
                        other.number -= set_apart
                    has_waited, done, started = True, Progress(cursor=work.cursor), time.monotonic()
                    continue
                if isinstance(flight.error, Interrupted):
                    items.abandon()
                    return self._halt(work, done, started, self._slot.stop)
                self._add(flight, done, work)
                items.flights.popleft()
                has_waited = False
                if not seconds:
                    self._commit_alone(work, flight.unit, timed(done, started))
                    done, started = Progress(cursor=done.cursor), time.monotonic()
            if not done.is_empty and (time.monotonic() - started >= seconds or done.size >= MOST_BYTES):
                if self._slot.is_orphaned:
                    items.abandon()
                    return self._halt(work, done, started, slot_table.ORPHANED)
                self._committer.begin(work, timed(done, started))
                done, started = Progress(cursor=done.cursor), time.monotonic()
        if must_stop and done.is_empty and done.cursor == work.last_key:
            self._committer.wait()  # that was its last checkpoint: there is nothing to give back
            return Halt(why)
        if must_stop:
            return self._halt(work, done, started, why)
        if not done.is_empty:
            self._committer.begin(work, timed(done, started))
        return None

    @staticmethod
    def _has_place(items: AsyncItems, most: int) -> bool:
        return (
            items.at_work < most
            and len(items.flights) < most * BUFFER
            and items.size < MOST_BYTES
            and not any(isinstance(flight.error, (TryLater, *ASKS)) for flight in items.flights)
        )

    def _ask_if_exhausted(self, flight: Flight) -> None:
        """If a person is to decide whether ``flight`` has failed, that is its error."""
        if isinstance(flight.error, GivenUp):
            try:
                self._refuse_to_give_up(flight.unit, flight.error, flight.error.attempts)
            except Asked as asked:
                flight.error = asked.why

    def _add(self, flight: Flight, done: Progress, work: LeasedSlice) -> None:
        """Add to ``done`` what became of the item. Raises what is not its fault."""
        unit, error = flight.unit, flight.error
        if error is None:
            done.outputs += flight.rows
            done.size += flight.size
            done.processed += unit.size
        elif isinstance(error, GivenUp):
            memory_faults.note(error.error, self._stage_run, work.node)
            done.failures += failures_of(unit, error)
            done.failed += unit.size
        else:
            raise error
        done.staged |= flight.staged
        done.cursor = unit.last_key
