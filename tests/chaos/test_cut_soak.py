"""Workers whose wires to PostgreSQL and Redis are cut and stalled at random, with a hold every other second.

``SOAK_MINUTES`` (default 1) says for how long. What is asserted of each task, and why no more:

- **Received, then done.** What a worker has received is done at least once, however it acknowledges: no process dies
  here. What no worker has received may be gone: Redis takes a message from its list when it is asked for the next one,
  and an answer that is cut off takes the message with it, whatever Celery app it is of. These are counted, and few.
- **Kept, then done once.** What was kept is in nobody's hand. From its entry each piece of it begins once and it ends
  once, although the message that is sent on may be lost or doubled, too. A message that was never kept has the broker's
  own guarantees: one that could not be acknowledged comes again.
- **Nothing begins under a hold** later than 250 ms after its commit, or than 2 s if a wire of the workers was cut or
  stalled then; while PostgreSQL's is stalled nobody can be told anything, and the 2 s begin when it flows.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from celery import current_app
from django.db import connection

from tests.support.proxy import PostgresProxy, Proxy

if TYPE_CHECKING:
    from tests.support.foreign_project import Foreign

MINUTES = float(os.environ.get("SOAK_MINUTES", "1"))
SETTLE_SECONDS = 90
BOUND_SECONDS = 0.25
BOUND_WHEN_DISTURBED = 2.0
CALM_SECONDS = 3.0
"""So long before and after a hold's commit no wire was touched, where the shorter bound is asked for."""
ROUGH_SECONDS = 10.0
MOST_AT_ONCE = 40
LOST_BY_REDIS = 0.1
VISIBILITY_SECONDS = 10
WORKERS = {"prefork": ("-P", "prefork", "-c", "2"), "threads": ("-P", "threads", "-c", "4")}
QUEUE = "foreign"
TASKS = [f"tests.foreign.soak_tasks.{run}_{acks}" for run in ("single", "halves") for acks in ("early", "late")]

from tests.support.workers import eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(MINUTES * 60 + SETTLE_SECONDS * 2 + 120),
]


@dataclass
class Held:
    """Between these two moments of PostgreSQL's clock the hold was in force for sure."""

    since: float
    mode: str
    until: float = float("inf")


@dataclass
class Disturbance:
    what: str
    since: float
    until: float


def now() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(cursor.fetchone()[0])


class Soak:
    """What happens, by the dice: work is poured in, holds come and go, wires are cut."""

    def __init__(self, foreign: Foreign, postgres: PostgresProxy, redis: Proxy, dice: random.Random) -> None:
        self.foreign = foreign
        self.postgres = postgres
        self.redis = redis
        self.dice = dice
        self.sent: list[str] = []
        self.holds: list[Held] = []
        self.disturbances: list[Disturbance] = []
        self.flows_at: dict[str, float] = {}
        """When what is stalled or away now is to be let go, by what it is."""
        self._began: dict[str, float] = {}
        self._hold_ends_at = 0.0
        self._next_hold_at = 0.0
        self._next_blow_at = 0.0
        self._scope = ""
        self._done: set[str] = set()
        self._read_to = 0

    def live_through(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pour()
            self.toggle()
            self.disturb()
            self.poll()
            time.sleep(0.05)
        self.calm_down()

    def pour(self) -> None:
        """Some are due later: they are in a worker's hand when a hold comes."""
        self._learn_what_is_done()
        for _ in range(MOST_AT_ONCE - len(self.sent) + len(self._done)):
            due, work = self.dice.choice([None, None, 0.5, 1.5]), self.dice.uniform(0.02, 0.3)
            sent = current_app.send_task(self.dice.choice(TASKS), [work], queue=QUEUE, countdown=due)
            self.sent.append(str(sent.id))

    def _learn_what_is_done(self) -> None:
        """Read what the ledger has gained; all of it each time would leave no time for anything else."""
        with connection.cursor() as cursor:
            # Ids are given out before they are seen: the last few are read again.
            cursor.execute(
                "SELECT id, task_id FROM soak_ledger WHERE what = 'done' AND id > %s", [self._read_to - 1000]
            )
            for number, task_id in cursor.fetchall():
                self._read_to = max(self._read_to, number)
                self._done.add(task_id)

    def toggle(self) -> None:
        from tests.support.foreign_project import hold, release

        if self._scope and time.monotonic() > self._hold_ends_at:
            self.holds[-1].until = now()
            release(self._scope)
            self._scope = ""
            self._next_hold_at = time.monotonic() + self.dice.uniform(0.4, 1.2)
        elif not self._scope and time.monotonic() > self._next_hold_at:
            self._scope = self.dice.choice(["fleet", f"queue:{QUEUE}"])
            mode = self.dice.choice(["drain", "quiesce"])
            hold(self._scope, mode=mode)
            self.holds.append(Held(now(), mode))
            self._hold_ends_at = time.monotonic() + self.dice.choice([0.5, 1.0, 3.5])

    def disturb(self) -> None:
        for what in [what for what, at in self.flows_at.items() if time.monotonic() > at]:
            self._let_go(what)
        # Every other while is calm: the shorter bound is asked for then.
        is_calm = int(time.monotonic() / ROUGH_SECONDS) % 2 == 0
        if is_calm or time.monotonic() < self._next_blow_at:
            return
        self._next_blow_at = time.monotonic() + self.dice.choice([0.2, 0.5, 1.0])
        self.dice.choice([self._cut, self._cut, self._stall, self._take_away])()

    def _cut(self) -> None:
        proxy, what = self._one()
        begun = now()
        proxy.cut_some(self.dice.choice([0.3, 1.0]), self.dice)
        self.disturbances.append(Disturbance(f"cut {what}", begun, now()))

    def _stall(self) -> None:
        proxy, what = self._one()
        self._begin(f"stalled {what}", proxy.stall)

    def _take_away(self) -> None:
        def away() -> None:
            self.postgres.refuse()
            self.postgres.cut()

        self._begin("away PostgreSQL", away)

    def _begin(self, what: str, act: Callable[[], object]) -> None:
        if what not in self.flows_at:
            self._began[what] = now()
            act()
            self.flows_at[what] = time.monotonic() + self.dice.uniform(0.3, 2.5)

    def _let_go(self, what: str) -> None:
        if what == "away PostgreSQL":
            self.postgres.admit()
        else:
            (self.postgres if what.endswith("PostgreSQL") else self.redis).flow()
        self.disturbances.append(Disturbance(what, self._began[what], now()))
        del self.flows_at[what]

    def _one(self) -> tuple[Proxy, str]:
        return self.dice.choice([(self.postgres, "PostgreSQL"), (self.redis, "Redis")])

    def poll(self) -> None:
        """As beat would have it."""
        from pause_manager.pausable import redispatch

        if self.dice.random() < 0.05:
            redispatch.reconcile()

    def calm_down(self) -> None:
        from tests.support.foreign_project import release

        for what in list(self.flows_at):
            self._let_go(what)
        if self._scope:
            self.holds[-1].until = now()
            release(self._scope)

    # What came of it

    def done(self) -> set[str]:
        return {task_id for task_id, what, *_ in self.ledger() if what == "done"}

    def ledger(self) -> list[tuple[str, str, str | None, float]]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT task_id, what, entry, extract(epoch FROM at)::float8 FROM soak_ledger ORDER BY id")
            return list(cursor.fetchall())

    def received(self) -> set[str]:
        """What a worker says that it has, or had in its pause queue."""
        from pause_manager.models import PauseQueueEntry

        said = "\n".join(self.foreign.workers.said(name) for name in WORKERS)
        kept = PauseQueueEntry.objects.values_list("ref", flat=True)
        return {*re.findall(r"\[([0-9a-f-]{36})\] received", said), *(ref.removeprefix("task:") for ref in kept)}

    def starts(self) -> list[tuple[float, float, str]]:
        """What began under a hold: seconds after its commit, how many were allowed, and what it was."""
        begun = [(task_id, what, at) for task_id, what, _, at in self.ledger() if what != "done"]
        return [
            (at - held.since, self._bound(held) - held.since, f"{what} of {task_id}")
            for held in self.holds
            for task_id, what, at in begun
            # A drain lets a task that is at work go on with its pieces.
            if held.since < at < held.until and (what == "begun" or held.mode == "quiesce")
        ]

    def _bound(self, held: Held) -> float:
        near = [
            one
            for one in self.disturbances
            if one.since < held.since + CALM_SECONDS and one.until > held.since - CALM_SECONDS
        ]
        if not near:
            return held.since + BOUND_SECONDS
        deaf = [one.until for one in near if one.what in ("stalled PostgreSQL", "away PostgreSQL")]
        return max([held.since, *deaf]) + BOUND_WHEN_DISTURBED

    def calm_holds(self) -> int:
        return sum(self._bound(held) == held.since + BOUND_SECONDS for held in self.holds)


@pytest.fixture
def soak(process_env: dict[str, str], tmp_path: Path, seed: int, settings: Any) -> Iterator[Soak]:
    from tests.support.foreign_project import Foreign

    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "answer_grace_seconds": 2.0}
    at = connection.settings_dict
    user = f"{at['USER']}:{quote(at['PASSWORD'])}" if at["PASSWORD"] else at["USER"]
    url = urlsplit(os.environ["REDIS_URL"])
    upstream = url.path if url.scheme == "unix" else (url.hostname or "localhost", url.port or 6379)
    number = (parse_qs(url.query).get("db") or [url.path.strip("/") or "0"])[0]
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE soak_ledger (id bigserial PRIMARY KEY, task_id text, what text, entry text, "
            "at timestamptz DEFAULT clock_timestamp())"
        )
    with ExitStack() as opened:
        postgres = opened.enter_context(PostgresProxy.of(at))
        broker = opened.enter_context(Proxy(upstream))
        env = {
            **process_env,
            "DATABASE_URL": f"postgresql://{user}@{quote(postgres.host, safe='')}/{quote(str(at['NAME']))}",
            "DIRECT_DATABASE_URL": process_env["DATABASE_URL"],
            "REDIS_URL": f"unix://{broker.address}?db={number}",
            "FOREIGN_VISIBILITY": str(VISIBILITY_SECONDS),
            "FOREIGN_GRACE": "2",
        }
        foreign = Foreign(tmp_path, env)
        opened.callback(foreign.close)
        for name, options in WORKERS.items():
            foreign.worker(name, *options)
        yield Soak(foreign, postgres, broker, random.Random(seed))
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE soak_ledger")


def test_cut_and_stalled_wires_lose_nothing_and_start_nothing_under_a_hold(soak: Soak):
    from pause_manager.fleet import drain
    from pause_manager.messaging import broker
    from pause_manager.models import PauseQueueEntry, RunningTask
    from tests.support.foreign_project import reconciled

    soak.live_through(MINUTES * 60)

    # What was poured last may still be in the queue.
    reconciled(lambda: broker.queue_depth(QUEUE) == 0 and soak.received() <= soak.done(), SETTLE_SECONDS)
    is_over = reconciled(
        lambda: (
            not (
                RunningTask.objects.exists()
                or PauseQueueEntry.objects.waiting().exists()
                or PauseQueueEntry.objects.unconfirmed().exists()
            )
        ),
        SETTLE_SECONDS,
    )
    received, ledger, done = soak.received(), soak.ledger(), soak.done()
    gone = set(soak.sent) - received - done
    kept = PauseQueueEntry.objects.count()
    by_entry = Counter((entry, task_id, what) for task_id, what, entry, _ in ledger if entry is not None)
    again = sum(times - 1 for times in Counter((task_id, what) for task_id, what, *_ in ledger).values())
    blows = Counter(one.what for one in soak.disturbances)
    starts = soak.starts()
    worst = {bound == BOUND_SECONDS: round(late, 3) for late, bound, _ in sorted(starts)}
    print(f"[soak] the last start under a hold, s after its commit: {worst.get(True)} calm, {worst.get(False)} if not")
    print(
        f"[soak] {len(soak.sent)} tasks, {kept} kept, {len(soak.holds)} holds of which {soak.calm_holds()} calm, "
        f"{dict(blows)}; {len(gone)} lost by Redis before any worker had them, {again} pieces repeated by it"
    )
    problems = {
        "workers that have ended": [
            name for name, process in soak.foreign.workers.processes.items() if process.poll() is not None
        ],
        "received and never done": sorted(received - done),
        "begun or ended more than once from one entry": sorted(
            str(one) for one, times in by_entry.items() if times > 1
        ),
        "begun under a hold": [
            f"{what}: {late:.3f} s after its commit, of {bound:.2f} s" for late, bound, what in starts if late > bound
        ],
    }
    assert {what: found for what, found in problems.items() if found} == {}
    assert is_over, f"waiting {list(PauseQueueEntry.objects.waiting())}, running {list(RunningTask.objects.all())}"
    assert eventually(lambda: drain.measure().is_drained), drain.measure()
    assert len(gone) <= LOST_BY_REDIS * len(soak.sent), "these are few"
    assert soak.calm_holds() > 0, "the shorter bound was asked for"
    assert kept > 0
