"""PostgreSQL is away while work is held, or while tasks with a time limit arrive: each runs once, and none fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from tests.support.proxy import PostgresProxy
from tests.support.workers import eventually

if TYPE_CHECKING:
    from tests.support.foreign_project import Foreign

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

TASKS = 60
PARKED = 36
AWAY_SECONDS = 6.0
DUE_SECONDS = 3.0


@pytest.fixture(autouse=True)
def short_grace(settings: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "answer_grace_seconds": 1.0}


def cut(proxy: PostgresProxy) -> None:
    """As an idle timeout or a proxy does: every connection ends, and new ones are taken."""
    assert proxy.cut() > 0


def restart(proxy: PostgresProxy) -> None:
    with proxy.away():
        time.sleep(2)
    time.sleep(2)


OUTAGES: dict[str, Callable[[PostgresProxy], None]] = {"cut": cut, "restarted": restart}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outage", "acks"),
    [
        ("cut", "early"),
        ("cut", "late"),
        ("restarted", "early"),
        ("restarted", "late"),
    ],
)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_all_run_once_after_a_pause_with_an_outage(
    foreign_behind: Foreign, proxy: PostgresProxy, outage: str, acks: str, pool: str
):
    from tests.support.delivery_lives import Lives
    from tests.support.foreign_project import hold, reconciled, release, waiting

    foreign_behind.worker("one", "-P", pool, "-c", "4", FOREIGN_ACKS_LATE=str(int(acks == "late")))
    lives = Lives(lambda: foreign_behind.workers.said("one"), proxy)
    keys = [f"task-{n}" for n in range(TASKS)]
    # Each process of the pool has worked and keeps its connections, which nobody uses before the release.
    run(lives, keys[PARKED:])
    taken = [lives.send("once", key, countdown=DUE_SECONDS) for key in keys[:PARKED]]
    foreign_behind.are_taken(taken)
    hold()
    assert waiting(PARKED)

    OUTAGES[outage](proxy)
    release()

    reconciled(lambda: all(lives.count(key, "once") for key in keys), 40)
    eventually(lives.is_over, 20, every=0.3)
    ran = {key: lives.count(key, "once") for key in keys}
    never, twice = [key for key in keys if not ran[key]], [key for key in keys if ran[key] > 1]
    assert (never, twice) == ([], []), f"{len(never)} never ran, {len(twice)} ran twice; {lives.left()}"
    assert lives.is_over(), lives.left()


def run(lives: Any, keys: list[str]) -> None:
    for key in keys:
        lives.send("once", key)
    assert eventually(lambda: all(lives.count(key, "once") for key in keys))


@contextmanager
def locked_holds(proxy: PostgresProxy) -> Iterator[None]:
    """As a migration of their table does."""
    goes_on, is_locked = threading.Event(), threading.Event()

    def lock() -> None:
        own = connection.copy()
        try:
            own.set_autocommit(False)
            with own.cursor() as cursor:
                cursor.execute("LOCK TABLE pause_manager_hold, pause_manager_runningtask")
                is_locked.set()
                goes_on.wait(60)
            own.rollback()
        finally:
            own.close()

    holder = threading.Thread(target=lock)
    holder.start()
    assert is_locked.wait(10)
    try:
        yield
    finally:
        goes_on.set()
        holder.join()


TROUBLES: dict[str, Callable[[PostgresProxy], AbstractContextManager[None]]] = {
    "away": PostgresProxy.away,
    "stalled": PostgresProxy.stalled,
    "locked": locked_holds,
}


@pytest.mark.parametrize("acks", ["early", "late"])
@pytest.mark.parametrize(
    "trouble",
    ["away", "stalled", "locked"],
)
@pytest.mark.slow
def test_no_time_limit_runs_while_the_database_is_away(
    foreign_behind: Foreign, proxy: PostgresProxy, trouble: str, acks: str
):
    from tests.support.delivery_lives import Lives

    foreign_behind.worker("one", "-c", "2", FOREIGN_ACKS_LATE=str(int(acks == "late")))
    lives = Lives(lambda: foreign_behind.workers.said("one"), proxy)
    run(lives, [f"before-{n}" for n in range(4)])
    limits: dict[str, dict[str, Any]] = {
        "soft": {"soft_time_limit": 2},
        "hard": {"time_limit": 3},
        "both": {"soft_time_limit": 2, "time_limit": 4},
    }

    with TROUBLES[trouble](proxy):
        sent = {key: lives.send("once", key, **limit) for key, limit in limits.items()}
        time.sleep(AWAY_SECONDS)

    states = {key: foreign_behind.ended(task_id)[0] for key, task_id in sent.items()}
    assert states == dict.fromkeys(limits, "SUCCESS")
    assert {key: lives.count(key, "once") for key in limits} == dict.fromkeys(limits, 1)
    assert eventually(lives.is_over, 20, every=0.3), lives.left()
