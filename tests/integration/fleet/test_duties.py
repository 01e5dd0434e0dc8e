"""Each duty of a worker goes on by itself after every connection to PostgreSQL was ended, as a restart does."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from pause_manager.models import CapacitySample, ControlEvent, CounterTotal, FleetWorker, PollState, WorkerNode
from tests.integration.pausable.conftest import foreign as foreign
from tests.support.foreign_project import Foreign, hold, release
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(300)]

POLICY = {
    "thresholds": {"cpu_slack_cores": 0.0, "cpu_slack_share": 0.0, "resume_above": 0.2},
    "dwell": {"resume_dwell_seconds": 1.0},
}
"""Whatever strangers use counts, and a machine is never without any."""
OPTIONS = {
    "worker_beat_seconds": 0.5,
    "save_node_seconds": 1.0,
    "tally_seconds": 1.0,
    "poll_interval_seconds": 1.0,
    "policy": POLICY,
}


def sever() -> int:
    """What a restart or failover of PostgreSQL, PgBouncer or an idle time-out does to every open connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        ended: int = cursor.fetchone()[0]
    return ended


def grows(read: Callable[[], Any], seconds: float = 20) -> bool:
    """Whether what ``read`` answers is another soon."""
    before = read()
    return bool(eventually(lambda: read() != before, seconds))


def last_seen() -> Any:
    return WorkerNode.objects.values_list("last_seen_at", flat=True).first()


def worker_seen() -> Any:
    return FleetWorker.objects.values_list("last_seen_at", flat=True).first()


def counted() -> float:
    return sum(CounterTotal.objects.filter(name="foreign_counted_total").values_list("value", flat=True))


def saturate(foreign: Foreign) -> None:
    WorkerNode.objects.update(pause_below=1.0)
    assert eventually(lambda: WorkerNode.objects.filter(is_consuming=False).exists(), 30), foreign.workers.said("one")


def test_every_duty_of_a_worker_outlives_the_end_of_all_connections(foreign: Foreign):
    foreign.worker("one", "-c", "2", FOREIGN_CAPACITY="1", FOREIGN_OPTIONS=json.dumps(OPTIONS))
    assert eventually(last_seen, 20)
    WorkerNode.objects.update(pause_below=0.0)
    assert foreign.ended(foreign.send("counts"))[0] == "SUCCESS"
    assert eventually(lambda: counted() == 1, 20)
    saturate(foreign)

    assert sever() >= 2

    # The node is kept in the database, and by the minute.
    assert grows(last_seen)
    CapacitySample.objects.all().delete()
    assert eventually(CapacitySample.objects.exists, 75), "a minute is full within 61 s"
    # The worker reports.
    assert grows(worker_seen)
    # A node that was saturated at that moment takes work again, and stops again.
    waits = foreign.send("add", 1, 2)
    WorkerNode.objects.update(pause_below=0.0)
    assert foreign.ended(waits, 30) == ["SUCCESS", 3]
    assert WorkerNode.objects.get().is_consuming
    saturate(foreign)
    actions = ControlEvent.objects.filter(scope__startswith="node:").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["node_saturated", "node_has_room", "node_saturated"]
    WorkerNode.objects.update(pause_below=0.0)
    # It polls in the place of a beat that is dead.
    PollState.objects.update(polled_at=Now() - timedelta(seconds=60))
    assert eventually(lambda: PollState.objects.filter(polled_at__gt=Now() - timedelta(seconds=10)).exists(), 20)
    # What is counted in its pool arrives.
    assert foreign.ended(foreign.send("counts"), 30)[0] == "SUCCESS"
    assert eventually(lambda: counted() == 2, 20)
    # It obeys.
    hold()
    version = eventually(lambda: FleetWorker.objects.filter(acknowledged_version__gte=2).exists(), 20)
    assert version
    kept = foreign.send("add", 3, 4)
    assert foreign.ended(kept, 3)[0] == "PENDING"
    release()
    assert foreign.ended(kept, 30) == ["SUCCESS", 7]


def test_work_is_asked_to_yield_after_the_end_of_all_connections(foreign: Foreign):
    """A worker that watches the node, and one beside it that overlooks strangers, and so starts what has no room."""
    options = {
        "worker_beat_seconds": 0.5,
        "save_node_seconds": 1.0,
        "policy": {**POLICY, "dwell": {**POLICY["dwell"], "contended_dwell_seconds": 1.0}},
    }
    watching = {"FOREIGN_CAPACITY": "1", "FOREIGN_OPTIONS": json.dumps(options)}
    foreign.workers.start("watch", "-Q", "elsewhere", "-c", "1", env=watching)
    assert eventually(last_seen, 20)
    blind = {"policy": {"thresholds": {"pause_below": 0.0, "resume_above": 0.0, "cpu_slack_cores": 1000.0}}}
    foreign.worker("one", "-c", "1", FOREIGN_CAPACITY="1", FOREIGN_OPTIONS=json.dumps(blind))
    WorkerNode.objects.update(pause_below=0.0)

    assert sever() >= 2

    for _ in range(2):
        foreign.send("patient", "long")
    assert eventually(lambda: foreign.notes("piece"), 30), foreign.workers.said("one")[-2000:]
    asked = ControlEvent.objects.filter(action="yield_wanted")
    assert eventually(asked.exists, 40), foreign.workers.said("watch")[-2000:]


def test_a_process_of_the_pool_that_counts_opens_no_connection(foreign: Foreign):
    foreign.worker("one", "-c", "1", FOREIGN_OPTIONS=json.dumps(OPTIONS))
    assert eventually(last_seen, 20)
    assert eventually(worker_seen, 20)
    before = connections()

    for number in range(5):
        assert foreign.ended(foreign.send("counts_only"))[0] == "SUCCESS", number
    assert eventually(lambda: counted() == 5, 20)

    assert connections() <= before


def connections() -> int:
    """Of others to this test's database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        found: int = cursor.fetchone()[0]
    return found
