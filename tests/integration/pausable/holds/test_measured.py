"""A project without runs: how long its tasks take to stop and to go on is measured and told."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest

from pause_manager.models import ControlEvent, Hold, RunningTask
from pause_manager.observability import counters
from pause_manager.pausable import running_tasks
from tests.support.foreign_project import QUEUE, Foreign, hold, release, waiting
from tests.support.scrape import Scrape, renamed
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def nothing_counted(transactional_db: None) -> None:
    """What other tests of this process have counted is not ours."""
    counters._forget()


def actions(scope: str) -> list[str]:
    found = ControlEvent.objects.filter(scope=scope, action__in=("settled", "went_on")).order_by("pk")
    return list(found.values_list("action", flat=True))


def is_counted(name: str, **labels: str) -> bool:
    """Whether exactly one is."""
    return Scrape.of_the_view().value(f"slackwater_{name}_seconds_count", kind="operator", **labels) == 1


@pytest.mark.slow
@pytest.mark.req("W-28")
def test_settle_and_resume_times_of_pausable_tasks(foreign: Foreign):
    foreign.worker("one", "-c", "2", FOREIGN_OPTIONS=json.dumps({"permit_seconds": 2.0}))

    # A drain: two tasks go on to their end; the second of them is the last.
    first, last = foreign.send("steady", "first", 1.0), foreign.send("steady", "last", 3.0)
    assert eventually(lambda: len(running_tasks.running()) == 2)
    hold(f"queue:{QUEUE}")
    assert eventually(lambda: foreign.notes("steady-end") == [["steady-end", "first"]])
    assert actions(f"queue:{QUEUE}") == []
    assert eventually(lambda: actions(f"queue:{QUEUE}") == ["settled"]), foreign.workers.said("one")[-3000:]
    assert foreign.notes("steady-end") == [["steady-end", "first"], ["steady-end", "last"]]
    assert (foreign.ended(first)[0], foreign.ended(last)[0]) == ("SUCCESS", "SUCCESS")

    # What goes on first was never kept: its message has waited in the broker.
    plain = foreign.send("add", 1, 2)
    release(f"queue:{QUEUE}")
    assert foreign.ended(plain) == ["SUCCESS", 3]
    assert eventually(lambda: actions(f"queue:{QUEUE}") == ["settled", "went_on"])
    [settled] = ControlEvent.objects.filter(scope=f"queue:{QUEUE}", action="settled")
    assert (settled.details["tasks"], settled.details["mode"]) == (2, "drain")
    assert 1.0 < settled.details["seconds"] < 30.0

    # A quiesce: what leaves at a boundary has stopped, and is kept until it goes on.
    sent = foreign.send("slow", "a", 5.0)
    assert eventually(lambda: foreign.notes("piece"))
    hold(mode="quiesce")
    assert waiting(1)
    assert eventually(lambda: actions("fleet") == ["settled"]), foreign.workers.said("one")[-3000:]
    assert not RunningTask.objects.exists()
    release()
    assert foreign.ended(sent) == ["SUCCESS", "a"]
    assert eventually(lambda: actions("fleet") == ["settled", "went_on"])
    assert not Hold.objects.filter(work_resumed_at__isnull=True).exists()

    # Counted by the worker's processes, which write every few seconds.
    for scope, mode in (("queue", "drain"), ("fleet", "quiesce")):
        assert eventually(partial(is_counted, "pause_settle", scope=scope, mode=mode), 30), (scope, mode)
        assert eventually(partial(is_counted, "resume", scope=scope), 30), scope

    # A layer that cannot be read starts nothing, and is shown.
    with renamed(Hold._meta.db_table):
        assert eventually(lambda: "The holds cannot be read" in foreign.workers.said("one"))
        late = foreign.send("add", 3, 4)
        time.sleep(1)
        assert foreign.notes("add") == [["add", 1, 2]]
    assert foreign.ended(late) == ["SUCCESS", 7]
    assert eventually(lambda: Scrape.of_the_view().value("slackwater_gate_degraded", layer="holds") == 1, 30)
