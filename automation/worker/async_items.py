"""The items of a slice for a stage whose ``process`` is async: up to ``in_flight`` of them at once on one event loop.

The event loop runs only while the item loop waits for something to happen. Commits, judgements and states are done
between two such waits, where no event loop runs and the database may be used as ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from automation.items import store
from automation.items.background_connection import BackgroundConnection
from automation.items.partial_items import ItemStates, PartialItem
from automation.items.units import Unit
from automation.pipeline import AnyStage, item_types
from automation.pipeline.context import AsyncStageContext, Interrupted, StageContext, TookTooLong
from automation.pipeline.item_types import Reader
from automation.pipeline.retry_policy import backoff, is_tried_again
from automation.worker.attempts import Fault, GivenUp, cause_of, fault_of
from pause_manager.slots.slot_table import ATTEMPT, BEGUN, NUMBER, Slot

LOOK_SECONDS = 0.05
"""Between two looks at whether to stop, while nothing else happens."""
BUFFER = 20
"""Items that are done and wait for one before them, per item in flight."""


class EventLoop:
    """One event loop of one stage loop, made when it is first needed."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.get_loop()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def close(self) -> None:
        """Cancel what is left, and end."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


@dataclass(slots=True, eq=False)
class Flight:
    """One item (or group) in progress, or done and waiting for those before it."""

    unit: Unit
    number: int
    ctx: AsyncStageContext
    partial_item: PartialItem
    attempt: int
    began: float = 0.0
    task: asyncio.Task[None] | None = None
    timer: asyncio.Timeout | None = None
    is_settled: bool = False
    rows: list[bytes] = field(default_factory=list)
    error: BaseException | None = None
    """Of the last attempt; of a settled one a ``GivenUp``, or what is not its fault."""
    staged: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its outputs."""
        return sum(map(len, self.rows))


class AsyncItems:
    """The items in flight of one slice."""

    def __init__(
        self,
        events: EventLoop,
        stage: AnyStage,
        ctx: StageContext,
        slot: Slot,
        states: ItemStates,
        *,
        readers: Sequence[Reader],
        background: BackgroundConnection,
        limit: float,
        most_bytes: int | None,
        must_stop: Callable[[], bool],
    ) -> None:
        self._loop = events.loop
        self._events = events
        self._stage = stage
        self._process = item_types.process_of(stage)
        self._readers = readers
        self._ctx = ctx
        self._slot = slot
        self._states = states
        self._background = background
        self._limit = limit
        self._most_bytes = most_bytes
        self._must_stop = must_stop
        self._woken = self._loop.create_future()
        self._requests: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._stood_since = time.monotonic()
        self._stood = 0.0
        """Seconds in which the event loop stood, and that no item has been excused yet."""
        self.flights: deque[Flight] = deque()
        """In the order of the slice."""

    @property
    def at_work(self) -> int:
        return sum(not flight.is_settled for flight in self.flights)

    @property
    def size(self) -> int:
        """Bytes of outputs that wait for an item before them."""
        return sum(flight.size for flight in self.flights if flight.is_settled)

    def start(self, unit: Unit, number: int, tried: int, given_up: GivenUp | None = None) -> None:
        """Begin to work on ``unit``, item ``number`` of the slice, which was tried so often by loops before.

        It is not tried if it is ``given_up``.
        """
        flight = Flight(unit, number, self._ctx_of(unit.key), None, tried + 1)  # type: ignore[arg-type]
        flight.partial_item = PartialItem(flight.ctx, must_stop=self._must_stop, background=self._background)
        flight.partial_item.states = self._states
        flight.ctx.bind(
            sleep=self._sleep,
            checkpoint=lambda state: self._ask(flight, lambda: flight.partial_item.checkpoint(state)),
            state=flight.partial_item.state,
        )
        self.flights.append(flight)
        if given_up is None and tried > self._stage.retries:
            given_up = GivenUp(TookTooLong("item_timeout", self._limit), tried)
        if given_up is not None:
            flight.error, flight.is_settled = given_up, True
            flight.staged[unit.key] = 0
        else:
            self._launch(flight, unit.given, 0.0)

    def run(self) -> None:
        """Let the items work until something has happened, or for a moment; then judge those that have ended."""
        stood = self._excuse()
        self._note_oldest()
        try:
            self._events.run(self._wait(stood))
        finally:
            self._slot.work[BEGUN] = 0.0
            self._stood_since = time.monotonic()
        self._answer()
        for flight in self.flights:
            if not flight.is_settled and flight.task is not None and flight.task.done():
                self._judge(flight)

    def abandon(self) -> None:
        """Cancel all that is in progress; what it has committed stays."""
        tasks = [flight.task for flight in self.flights if flight.task is not None and not flight.task.done()]
        for task in tasks:
            task.cancel()
        for _, answer in self._requests:
            answer.cancel()
        self._requests.clear()
        self.flights.clear()
        if tasks:
            self._events.run(_gathered(tasks))

    # -- in the event loop --------------------------------------------------------------------------------------------

    async def _wait(self, stood: float) -> None:
        if stood:
            self._put_off_timers(stood)
        await asyncio.wait([self._woken], timeout=LOOK_SECONDS)
        if self._woken.done():
            self._woken = self._loop.create_future()

    def _wake(self, _: object = None) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def _attempt(self, flight: Flight, given: Any, pause: float) -> None:
        try:
            if pause:
                await self._back_off(flight, pause)
            flight.began = time.monotonic()
            try:
                async with asyncio.timeout(self._limit if isfinite(self._limit) else None) as flight.timer:
                    flight.rows = await self._collect(flight, given)
            except TimeoutError:
                if flight.timer is not None and flight.timer.expired():
                    raise TookTooLong("item_timeout", self._limit) from None
                raise
        except GeneratorExit:
            raise
        except BaseException as error:
            flight.error = cause_of(error)
        finally:
            flight.timer = None

    async def _collect(self, flight: Flight, given: Any) -> list[bytes]:
        key = flight.unit.key
        with self._stepping(flight):
            made = self._process(given, flight.ctx)
        if not hasattr(made, "__aiter__"):
            outputs = item_types.fit(await _Stepped(made, self, flight), self._readers)
            return store.output_rows(key, outputs, self._most_bytes)
        rows: list[bytes] = await _Stepped(self._stream(flight, made, key.encode()), self, flight)
        return rows

    async def _stream(self, flight: Flight, made: Any, key: bytes) -> list[bytes]:
        rows: list[bytes] = []
        flight.partial_item.key, flight.partial_item.rows = flight.unit.key, rows
        ordinal = size = 0
        async for output in made:
            if self._readers:
                item_types.check_output(output, ordinal + 1, self._readers)
            rows.append(store.output_row(key, ordinal, output, self._most_bytes))
            size += len(rows[-1])
            ordinal += 1
            if size > store.SPILL_BYTES:
                await self._ask(flight, flight.partial_item.spill)
                size = 0
        return rows

    async def _ask(self, flight: Flight, do: Callable[[], None]) -> None:
        """Have ``do``, which commits something of ``flight``, done where no event loop runs; its time starts again."""
        answer = self._loop.create_future()
        self._requests.append((do, answer))
        self._wake()
        await answer
        flight.began = time.monotonic()
        if flight.timer is not None and isfinite(self._limit):
            flight.timer.reschedule(self._loop.time() + self._limit)

    async def _sleep(self, seconds: float) -> None:
        await self._pause(seconds, lambda: not self._stage.irreversible)

    async def _back_off(self, flight: Flight, seconds: float) -> None:
        # What comes after it cannot be committed without it, and where it is irreversible it must not be done twice.
        await self._pause(seconds, lambda: not self._stage.irreversible or flight is self.flights[-1])

    async def _pause(self, seconds: float, is_interruptible: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._slot.check()[0] and is_interruptible():
                raise Interrupted
            await asyncio.sleep(min(left, LOOK_SECONDS))

    # -- between two waits --------------------------------------------------------------------------------------------

    def _ctx_of(self, key: str) -> AsyncStageContext:
        made = AsyncStageContext.like(self._ctx)
        made.item_key = key
        return made

    def _launch(self, flight: Flight, given: Any, pause: float) -> None:
        flight.error, flight.began = None, 0.0
        flight.task = self._loop.create_task(self._attempt(flight, given, pause))
        flight.task.add_done_callback(self._wake)

    def _answer(self) -> None:
        requests, self._requests = self._requests, []
        for do, answer in requests:
            if answer.cancelled():
                continue
            try:
                do()
            except BaseException as error:
                answer.set_exception(_carried(error))
            else:
                answer.set_result(None)

    def _judge(self, flight: Flight) -> None:
        """Settle ``flight``, whose attempt has ended, or try again."""
        error, partial_item = flight.error, flight.partial_item
        if error is None:
            if partial_item.is_touched:
                flight.rows = partial_item.ended(flight.rows, flight.staged)
            flight.is_settled = True
            return
        stage, number = self._stage, flight.attempt
        if fault_of(error, self._slot.stop) is not Fault.ITEM:
            partial_item.leave()
            flight.is_settled = True
            return
        flight.ctx.logger.warning("%s failed (try %d): %s: %s", flight.unit.key, number, type(error).__name__, error)
        if number > stage.retries or not is_tried_again(stage, error):
            if partial_item.is_touched:
                partial_item.given_up(flight.staged)
            flight.error = GivenUp(error, number)
            flight.is_settled = True
            return
        partial_item.restart()
        flight.attempt += 1
        self._launch(flight, flight.unit.reloaded(), backoff(stage, number))

    def _excuse(self) -> float:
        """Seconds by which all that is in progress may take longer, for so long the event loop stood: often 0."""
        self._stood += time.monotonic() - self._stood_since
        if self._stood < LOOK_SECONDS:
            return 0.0
        stood, self._stood = self._stood, 0.0
        for flight in self.flights:
            if flight.began:
                flight.began += stood
        return stood

    def _put_off_timers(self, stood: float) -> None:
        for timer in [flight.timer for flight in self.flights]:
            if timer is not None and not timer.expired() and (ends_at := timer.when()) is not None:
                timer.reschedule(ends_at + stood)

    def _note_oldest(self) -> None:
        """Tell the supervisor of the item that is in progress for longest."""
        oldest = min((one for one in self.flights if not one.is_settled and one.began), key=_began, default=None)
        at = self._slot.work
        if oldest is not None:
            at[NUMBER], at[ATTEMPT], at[BEGUN] = oldest.number, oldest.attempt, oldest.began

    @contextmanager
    def _stepping(self, flight: Flight) -> Iterator[None]:
        """While code of ``flight`` runs it is this item that the supervisor sees, should it never pause."""
        at = self._slot.work
        before = at[NUMBER], at[ATTEMPT], at[BEGUN]
        at[BEGUN] = 0.0
        at[NUMBER], at[ATTEMPT], at[BEGUN] = flight.number, flight.attempt, time.monotonic()
        try:
            yield
        finally:
            at[BEGUN] = 0.0
            at[NUMBER], at[ATTEMPT], at[BEGUN] = before


def _began(flight: Flight) -> float:
    return flight.began


class _Stepped:
    """Awaits ``coroutine`` step by step, so that each of its steps is seen as its item's."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], items: AsyncItems, flight: Flight) -> None:
        self._coroutine = coroutine
        self._items = items
        self._flight = flight

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self._coroutine.send
        given: Any = None
        while True:
            try:
                with self._items._stepping(self._flight):
                    awaited = step(given)
            except StopIteration as end:
                return end.value
            try:
                given = yield awaited
                step = self._coroutine.send
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:
                given, step = error, self._coroutine.throw


async def _gathered(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks, timeout=5.0)


def _carried(error: BaseException) -> BaseException:
    """A future refuses to carry a ``StopIteration``."""
    return RuntimeError(str(error)) if isinstance(error, StopIteration) else error
