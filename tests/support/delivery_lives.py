"""The life of deliveries in a real worker, lived again and again with a connection broken at another place each time.

Five deliveries live at once: one declares needs and runs; one begins, leaves at a boundary when it is told to, and its
rest is kept; one is in the worker's hand, falls due while held, and is kept; one, a plain signature, was parked by its
caller; and when nothing holds them any more what waits is sent on, taken up, runs and ends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import redis
from celery import current_app
from django.db import transaction

from pause_manager import holds, manager, pause_queue
from pause_manager.actor import CAPACITY, Actor
from pause_manager.capacity.needs import Needs
from pause_manager.fleet import drain
from pause_manager.models import Hold, PauseQueueEntry, RunningTask
from pause_manager.pausable import redispatch
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.proxy import Fault, PostgresProxy, Statement, When
from tests.support.workers import REPOSITORY, eventually

OPERATOR = Actor("user:operator", "cli")
QUEUE = "foreign"
COUNTS = "foreign-counts"
TASKS = "tests.foreign.counted_tasks"

OURS = re.compile(r"pause_manager_(pausequeueentry|runningtask|hold|fleetworker|controlstate|controlevent)")
_WRITES = re.compile(r"COMMIT|INSERT|UPDATE|DELETE|WITH")
_WAYS: tuple[tuple[When, bool], ...] = (("before", False), ("after", False), ("after", True))
MOST_OF_A_SHAPE = 4
DUE_SECONDS = 0.6
CLEAN_DUE_SECONDS = 3.0
"""Of a pass in which it must be due after the hold, however slow the machine is."""
BOUND_SECONDS = 12.0
"""For each of: all is kept and drained; all has run; nothing is left. A broken connection costs a second or two."""
AGAIN_SECONDS = 1.5
"""Whoever was cut off has tried again by then."""
ALL = ("needing", "first", "rest", "once", "plain")


class Orders(Protocol):
    """What an operator and a parking caller do; each may be repeated."""

    def hold(self, mode: str) -> None: ...

    def release(self) -> None: ...

    def park(self, key: str) -> None: ...

    def poll(self) -> None: ...


class Here:
    """Orders of this process."""

    def hold(self, mode: str) -> None:
        holds.place(["fleet"], mode=mode, actor=OPERATOR, reason="upgrade")

    def release(self) -> None:
        holds.release(["fleet"], actor=OPERATOR, reason="done")

    def park(self, key: str) -> None:
        manager.pause_work([WithheldDispatch(f"import:{key}", f"{TASKS}.plain", QUEUE, Needs(), [key])], reason="full")

    def poll(self) -> None:
        """As beat would have it, with room for all."""
        redispatch.reconcile()
        plain = PauseQueueEntry.objects.waiting().filter(ref__startswith="import:")
        if not Hold.objects.filter(released_at=None).exists():
            pause_queue.send_on(list(plain.values_list("pk", flat=True)), actor=CAPACITY, reason="room")


class Elsewhere:
    """The same orders in a process of its own, whose database is behind a proxy; each repeated until it is done."""

    TRIES = 5

    def __init__(self, env: dict[str, str], log: Path) -> None:
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.order_process"],
                cwd=REPOSITORY,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.log = log
        assert self._read() == {"ready": True}, log.read_text()

    def hold(self, mode: str) -> None:
        self._order("hold", mode)

    def release(self) -> None:
        self._order("release")

    def park(self, key: str) -> None:
        self._order("park", key)

    def poll(self) -> None:
        self._order("poll")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _order(self, verb: str, *args: str) -> None:
        assert self.process.stdin is not None
        for _ in range(self.TRIES):
            self.process.stdin.write(json.dumps([verb, *args]) + "\n")
            self.process.stdin.flush()
            if "error" not in (answer := self._read()):
                return
        raise AssertionError(f"{verb} failed {self.TRIES} times: {answer['error']}")

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline() or '{"error": "it has ended"}')
        return answer


@dataclass(frozen=True)
class Case:
    """The ``nth`` statement of a shape in a life, and how the connection breaks there.

    ``is_held_on``: the hold stays until whoever was cut off has tried again; otherwise it goes before that.
    """

    shape: str
    nth: int
    when: When
    is_held_on: bool = False

    def __str__(self) -> str:
        return f"{self.when} #{self.nth}{' and held on' if self.is_held_on else ''} {self.shape[:150]}"

    @property
    def is_of_a_write(self) -> bool:
        """Whether a decision about a delivery is written there."""
        return _WRITES.match(self.shape) is not None and "pause_manager_controlevent" not in self.shape


@dataclass
class Outcome:
    case: Case
    key: str
    has_struck: bool
    complaints: list[str]


def cases_of(passes: Sequence[Sequence[Statement]], pattern: re.Pattern[str] = OURS) -> list[Case]:
    """All places at which lives like these can be broken: each statement of ours and each COMMIT of them, twice."""
    most: Counter[str] = Counter()
    for statements in passes:
        most |= Counter(one.shape for one in statements if pattern.search(one.shape))
    return [
        Case(shape, nth, when, is_held_on)
        for shape, times in sorted(most.items())
        for nth in range(1, min(times, MOST_OF_A_SHAPE) + 1)
        for when, is_held_on in _WAYS
    ]


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` of them, evenly, the first and the last included."""
    if len(cases) <= count:
        return list(cases)
    return [cases[round(at * (len(cases) - 1) / (count - 1))] for at in range(count)]


class Lives:
    """Lives on one long-lived worker, whose database is behind ``proxy``."""

    def __init__(self, said: Callable[[], str], proxy: PostgresProxy, orders: Orders | None = None) -> None:
        self.said = said
        self.proxy = proxy
        self.orders: Orders = orders or Here()
        self.store = redis.Redis.from_url(os.environ["REDIS_URL"])
        self.keys: list[str] = []

    def learn(self, passes: int = 2) -> list[Case]:
        """The places of a clean life; it must be without a complaint."""
        heard = []
        for _ in range(passes):
            with self.proxy.recorded() as statements:
                complaints = self.live(is_clean=True)
                assert not complaints, complaints
            heard.append(statements)
        return cases_of(heard)

    def try_each(self, cases: Sequence[Case]) -> list[Outcome]:
        """A life for each case, told as it goes; what became of it."""
        outcomes = []
        for case in cases:
            fault = Fault(case.shape, nth=case.nth, when=case.when)
            self.proxy.arm(fault)
            try:
                complaints = self.live(held_on=AGAIN_SECONDS if case.is_held_on else 0.1)
            finally:
                self.proxy.disarm()
            outcome = Outcome(case, self.keys[-1], fault.fired.is_set(), complaints)
            print(f"[faults] {'FAILED' if complaints else 'ok'} {'' if outcome.has_struck else '(missed) '}{case}")
            for complaint in complaints:
                print(f"[faults]     {complaint}")
            if complaints:
                self.clean_up()
            outcomes.append(outcome)
        time.sleep(2 * AGAIN_SECONDS)
        for outcome in outcomes:
            late = self.repeated(outcome.key)
            outcome.complaints += [one for one in late if one not in outcome.complaints]
        return outcomes

    def live(self, *, is_clean: bool = False, held_on: float = 0.1) -> list[str]:
        """All five deliveries, from their arrival to their end; what went wrong with them, in sentences."""
        key = uuid4().hex[:12]
        self.keys.append(key)
        wrong: list[str] = []
        self.orders.park(key)
        self.send("needing", key)
        self.send("leaves", key)
        due = self.send("once", key, countdown=CLEAN_DUE_SECONDS if is_clean else DUE_SECONDS)
        # In a clean pass each of them is where it is meant to be; in others a fault may have delayed what needs room.
        begun = ("first", "needing") if is_clean else ("first",)

        def is_set_up() -> bool:
            return all(self.count(key, what) for what in begun) and f"{due}] received" in self.said()

        if not eventually(is_set_up, BOUND_SECONDS, 0.02):
            wrong.append(f"not begun before the hold: {self.told(key)}")
        self.orders.hold("quiesce")
        is_kept = eventually(lambda: self.is_kept(key), BOUND_SECONDS, 0.02)
        if not is_kept:
            wrong.append(
                f"not kept and drained in {BOUND_SECONDS:.0f} s: {self.told(key)}, {drain.measure().as_dict()}"
            )
        if is_clean and PauseQueueEntry.objects.waiting().count() != 3:
            wrong.append(f"{PauseQueueEntry.objects.waiting().count()} wait, of 3")
        at_drain = self.counts(key)
        time.sleep(held_on)
        if self.counts(key) != at_drain:
            wrong.append(f"began after the fleet was drained: {at_drain} became {self.counts(key)}")
        if is_kept and not drain.measure().is_drained:
            wrong.append(f"the fleet was drained, and then not any more: {drain.measure().as_dict()}")
        self.orders.release()
        if not eventually(lambda: self.has_run(key), BOUND_SECONDS, 0.05):
            wrong.append(f"not all has run: {self.told(key)}")
        if not eventually(self.is_over, BOUND_SECONDS, 0.05):
            wrong.append(f"left behind: {self.left()}")
        return wrong + self.repeated(key)

    def send(self, task: str, key: str, **options: Any) -> str:
        return str(current_app.send_task(f"{TASKS}.{task}", [key], queue=QUEUE, **options).id)

    def is_kept(self, key: str) -> bool:
        """Whether nothing of it runs, and the fleet says so. What was sent on a moment before waits in the broker."""
        waits = PauseQueueEntry.objects.waiting().count() + PauseQueueEntry.objects.unconfirmed().count()
        enough = waits >= 3 - self.count(key, "once") - self.count(key, "rest")
        return enough and drain.measure().is_drained

    def has_run(self, key: str) -> bool:
        """With the poll coming by meanwhile."""
        if all(self.counts(key).get(what) for what in ALL):
            return True
        self.orders.poll()
        return False

    def is_over(self) -> bool:
        if not (
            RunningTask.objects.exists()
            or PauseQueueEntry.objects.waiting().exists()
            or PauseQueueEntry.objects.unconfirmed().exists()
        ):
            return True
        self.orders.poll()
        return False

    def repeated(self, *keys: str) -> list[str]:
        """What of the lives of ``keys`` has begun more than once."""
        found = []
        for key in keys:
            twice = {what: times for what, times in self.counts(key).items() if times > 1}
            found += [f"began more than once: {twice} of {key}"] if twice else []
        return found

    def counts(self, key: str) -> dict[str, int]:
        values = self.store.hmget(COUNTS, [f"{key}/{what}" for what in ALL])
        return {what: int(times) for what, times in zip(ALL, values, strict=True) if times}

    def count(self, key: str, what: str) -> int:
        return self.counts(key).get(what, 0)

    def told(self, key: str) -> str:
        return f"begun {self.counts(key)}, {self.left()}"

    def left(self) -> str:
        waiting = list(PauseQueueEntry.objects.waiting().values_list("task_name", flat=True))
        unconfirmed = list(PauseQueueEntry.objects.unconfirmed().values_list("task_name", flat=True))
        running = list(RunningTask.objects.values_list("task_name", flat=True))
        return f"waiting {_short(waiting)}, sent and unconfirmed {_short(unconfirmed)}, running {_short(running)}"

    def clean_up(self) -> None:
        """What a failed life has left behind must not fail the next."""
        Here().release()
        with transaction.atomic():
            RunningTask.objects.all().delete()
            PauseQueueEntry.objects.all().delete()
        with current_app.connection_for_write() as broker:
            channel: Any = broker.default_channel
            channel.queue_purge(QUEUE)
        probe = uuid4().hex[:12]
        self.send("once", probe)
        assert eventually(lambda: self.count(probe, "once"), 30), f"the worker is stuck: {self.said()[-3000:]}"
        eventually(lambda: not RunningTask.objects.exists(), 5)


def _short(names: list[str]) -> list[str]:
    return [name.rpartition(".")[2] for name in names]
