"""The watcher's thread: heartbeats go on until the loop has ended, and nobody is read for without need."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest

from pause_manager.watcher import Stop, Watch, Watcher
from tests.system import eventually

pytestmark = pytest.mark.django_db(transaction=True)

SHUTDOWN = Stop("shutdown", "The worker is shutting down.")


class Reading(Watcher):
    """Counts its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def refresh(self, watches: Iterable[Watch]) -> None:
        self.reads += 1
        super().refresh(watches)


@pytest.fixture
def watcher() -> Iterator[Reading]:
    watcher = Reading()
    watches: set[Watch] = watcher._watches
    yield watcher
    for watch in tuple(watches):
        watcher.forget(watch)


def test_a_shutdown_does_not_end_the_heartbeat_of_the_item_at_hand(watcher):
    beats: list[float] = []
    watch = watcher.watch(["fleet"], heartbeat=lambda: beats.append(time.monotonic()), beat_seconds=0.1)

    watcher.stop_all(SHUTDOWN)
    so_far = len(beats)

    assert eventually(lambda: len(beats) > so_far + 3)
    assert watch.stop == SHUTDOWN


@pytest.mark.parametrize("is_shut_down", [False, True])
def test_who_has_no_heartbeat_is_read_for_when_polled_and_no_more_often(watcher, is_shut_down):
    watcher.watch(["fleet"], beat_seconds=0.1)
    if is_shut_down:
        watcher.stop_all(SHUTDOWN)
    assert eventually(lambda: watcher.is_listening)

    before = watcher.reads
    time.sleep(1)

    assert watcher.reads - before < 50, "a thread that spins reads some thousand times"
