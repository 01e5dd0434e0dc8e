"""The containers of a machine are restarted one after the other, each with its new name: in real namespaces."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.db import connection

from automation.models import AutomationRun, Lifecycle, WorkSlice
from automation.models.tables import SLICE
from automation.runs import reconciler
from pause_manager import holds, nodes
from pause_manager.models import ControlEvent, FleetWorker, Machine, RunningTask
from pause_manager.nodes.machines import identity, renaming
from tests.integration.nodes.test_containers import labels
from tests.integration.nodes.test_sampling import send
from tests.support import containers
from tests.support.factories import OPERATOR, make_run, outputs
from tests.support.race import in_thread
from tests.support.workers import Workers, eventually

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("load"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(containers.why_not()), reason=f"no namespaces here: {containers.why_not()}"),
]

_SEEN = f"""
    SELECT (SELECT name FROM {identity.MACHINE}), count(*), array_agg(DISTINCT lease_node)
      FROM {SLICE} WHERE lease_token IS NOT NULL AND finished_at IS NULL
"""


class Watched:
    """A run that beat and the control worker would look after, looked at all the while."""

    def __init__(self, run: AutomationRun) -> None:
        self.run = run
        self.most = 0
        self.leased_as: set[str] = set()

    def look(self) -> None:
        """What is leased is so under the name that the machine has at that moment."""
        with connection.cursor() as cursor:
            cursor.execute(_SEEN)
            name, leased, names = cursor.fetchone()
        assert set(names or ()) <= {name}
        self.most = max(self.most, leased)
        self.leased_as.update(names or ())
        reconciler.reap()
        reconciler.reconcile()
        time.sleep(0.25)

    def during(self, action: Callable[[], None]) -> None:
        """Workers end with the thread that has started them: the looking has one of its own."""
        is_done = threading.Event()
        looking = in_thread(lambda: self.until(is_done.is_set, 120))
        action()
        is_done.set()
        looking.join()

    def until(self, condition: Callable[[], object], seconds: float = 40) -> bool:
        end = time.monotonic() + seconds
        while not (met := condition()) and time.monotonic() < end:
            self.look()
        return bool(met)

    def is_completed(self) -> bool:
        self.run.refresh_from_db()
        return self.run.lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("M-27")
def test_what_is_at_work_goes_on_under_the_new_name(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    heavy = str(int((psutil.virtual_memory().available >> 20) * 0.55))
    monkeypatch.setenv("HEAVY_MIB", heavy)
    written, enough = tmp_path / "written", tmp_path / "enough"
    workers.env |= {"HEAVY_MIB": heavy, "ROLLING_ENOUGH": str(enough)}
    rolling = importlib.import_module("tests.support.rolling_work")

    def restart(host: str, node: str, queues: str = "stages") -> None:
        if host in workers.processes:
            workers.stop(host)
        options = ("-c", "2", "--include", "tests.support.rolling_work")
        env = {"SLACKWATER_NODE": node, "DJANGO_SETTINGS_MODULE": "tests.support.settings.watching"}
        workers.start(host, "-Q", queues, *options, env=env, within=containers.within(host))

    restart("box-a", "old")
    restart("box-b", "old")
    assert eventually(lambda: labels() == ["box-a", "box-b"])
    run = make_run("lasting", items=240)
    watched = Watched(run)
    assert watched.until(lambda: WorkSlice.objects.leased().exists())

    watched.during(lambda: restart("box-a", "new", f"stages,{rolling.QUEUE}"))
    send("tests.rolling", str(written), queue=rolling.QUEUE)
    assert watched.until(lambda: RunningTask.objects.filter(node="old").exists())
    assert watched.until(lambda: FleetWorker.objects.filter(wanted_node="new", node="old").exists())
    [sentence] = renaming.differing()
    assert "workers of old ask for different names of their machine: old (box-b@box-b), new (box-a@box-a)" in sentence

    watched.during(lambda: restart("box-b", "new"))
    assert watched.until(lambda: Machine.objects.get().name == "new")
    assert RunningTask.objects.get().node == "new"
    assert watched.until(lambda: "new" in watched.leased_as)
    assert watched.until(lambda: [(one.view.name, one.is_online) for one in nodes.states()] == [("new", True)])
    assert watched.until(lambda: set(FleetWorker.objects.values_list("node", flat=True)) == {"new"})

    holds.place(["node:new"], actor=OPERATOR, reason="new memory")
    assert watched.until(lambda: not WorkSlice.objects.leased().exists() and not RunningTask.objects.exists(), 10)
    assert not watched.is_completed(), "the hold has stopped something"
    counted = len(written.read_text().split())
    holds.release(["node:new"], actor=OPERATOR)
    assert watched.until(lambda: len(written.read_text().split()) > counted and WorkSlice.objects.leased().exists())
    enough.touch()

    assert watched.until(lambda: watched.is_completed() and not RunningTask.objects.exists(), 90)
    assert watched.most == 1, "half of the memory and more was given twice"
    assert [payload["n"] for payload in outputs(run)] == list(range(1, 241))
    numbers = [int(line) for line in written.read_text().split()]
    assert numbers == list(range(len(numbers)))
    assert not ControlEvent.objects.filter(action="worker_lost").exists()
