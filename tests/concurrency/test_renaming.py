"""A machine is renamed while work starts on it, on real connections: nothing is written under a name that it had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from django.db import transaction
from django.db.models.functions import Now

from automation import leases
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.leases.holders import Worker
from automation.models import AutomationRun, WorkSlice
from pause_manager import holds, nodes, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.models import FleetWorker, Hold, Machine, RunningTask, WorkerNode
from pause_manager.nodes.machines import identity, renaming
from pause_manager.nodes.members import acknowledge
from pause_manager.pausable import PausableTask, parked_messages
from pause_manager.probes import processes
from tests.integration.pausable.messages.test_settling import needy, returned, task  # noqa: F401  (fixtures)
from tests.support.deliveries import delivery
from tests.support.factories import OPERATOR, make_run, stage_of
from tests.support.node_factories import make_node, make_sample
from tests.support.pipelines import Few
from tests.support.race import in_thread, race, wait_until_blocked
from tests.support.sampling_workers import watching  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]
ROUNDS = 12


@pytest.fixture
def is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is ``name0``; one loop or task of ours finds room on it, and no second."""
    monkeypatch.setattr(identity, "_known", "")
    monkeypatch.setattr(Few, "needs", Needs(cpu=0, memory_mib=7_000))
    Machine.objects.create(boot_id=processes.boot_id(), name="name0")
    make_node("name0", is_live=False)


def claims(run: AutomationRun, remembered: str, name: str) -> None:
    """A loop that began while the machine was called ``remembered``."""
    worker = Worker(f"test/{name}", remembered, processes.boot_id())
    room = partial(admission.room_here, needs=Few.needs, pipeline=run.pipeline)
    try:
        leases.claim(stage_of(run).pk, worker, room=room)
    except NoRoom:
        return


def beats(remembered: str, wanted: str) -> None:
    here = {"boot_id": processes.boot_id(), "wanted_node": wanted}
    acknowledge("w@here", node=remembered, queues=["stages"], version=1, **here)


@pytest.mark.slow
@pytest.mark.usefixtures("is_named")
def test_who_starts_work_while_its_machine_is_renamed_books_under_its_name(needy: PausableTask):  # noqa: F811
    type(needy).needs = Few.needs
    run = make_run("few", items=60)
    for number in range(ROUNDS):
        old, new = f"name{number}", f"name{number + 1}"
        beats(old, new)
        is_held = number % 3 == 2
        if is_held:
            holds.place([f"node:{old}"], actor=OPERATOR)

        race(
            partial(renaming._rename, old, new),
            partial(claims, run, old, "a"),
            partial(claims, run, old, "b"),
            partial(parked_messages.admit, delivery(needy)),
            partial(beats, old, new),
            partial(nodes.save_sample, make_sample(old)),
        )

        everywhere = {
            "leases": set(WorkSlice.objects.leased().values_list("lease_node", flat=True)),
            "tasks": set(RunningTask.objects.values_list("node", flat=True)),
            "workers": set(FleetWorker.objects.values_list("node", flat=True)),
            "nodes": set(WorkerNode.objects.values_list("name", flat=True)),
        }
        names = set().union(*everywhere.values())
        assert names == {new}, everywhere
        assert len(workloads.allocations_by_node(new).get(new, ())) == (0 if is_held else 1), (
            "its memory is given once, and not if held"
        )
        assert list(nodes.held()) == ([new] if is_held else [])
        holds.release([f"node:{new}"], actor=OPERATOR)
        RunningTask.objects.all().delete()
        WorkSlice.objects.leased().update(
            lease_token=None, lease_owner="", lease_node="", leased_at=None, lease_expires_at=None
        )


@pytest.fixture
def node_is_locked() -> Iterator[Callable[[], None]]:
    """Somebody has the node's row, and who renames has written most, and waits. Called, he lets go."""
    is_locked, may_go = threading.Event(), threading.Event()

    def locks() -> None:
        with transaction.atomic():
            nodes.lock("name0")
            is_locked.set()
            may_go.wait(20)

    locking = in_thread(locks)
    assert is_locked.wait(20)

    def let_go() -> None:
        may_go.set()
        locking.join()

    yield let_go
    let_go()


@pytest.mark.usefixtures("is_named")
def test_a_machine_keeps_its_name_until_a_task_that_starts_has_its_row(task: PausableTask):  # noqa: F811
    holds.place(["queue:foreign"], actor=OPERATOR)
    assert parked_messages.admit(delivery(task)) is None
    holds.release(["queue:foreign"], actor=OPERATOR)
    back = returned(task)
    holds.place(["queue:foreign"], actor=OPERATOR)
    is_locked, may_go = threading.Event(), threading.Event()

    def releases() -> None:
        with transaction.atomic():
            Hold.objects.active().update(released_at=Now(), released_by=OPERATOR.name)
            is_locked.set()
            may_go.wait(20)

    releasing = in_thread(releases)
    assert is_locked.wait(20)
    starting = in_thread(partial(parked_messages.admit, back))
    wait_until_blocked(starting)
    renames = in_thread(partial(renaming._rename, "name0", "name1"))
    try:
        wait_until_blocked(renames)
    finally:
        may_go.set()

    releasing.join()
    starting.join()
    renames.join()
    assert RunningTask.objects.get().node == "name1"


@pytest.mark.usefixtures("is_named")
def test_a_report_that_comes_while_the_machine_is_renamed_tells_its_new_name(node_is_locked: Callable[[], None]):
    beats("name0", "name1")
    renames = in_thread(partial(renaming._rename, "name0", "name1"))
    wait_until_blocked(renames)
    reporting = in_thread(partial(beats, "name0", "name1"))
    wait_until_blocked(reporting)

    node_is_locked()
    renames.join()
    reporting.join()

    assert FleetWorker.objects.get().node == "name1"
