"""What a machine is called while its workers want different names, and what goes along when it is renamed."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from automation import leases
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.leases.holders import Worker
from automation.models import AutomationRun, WorkSlice
from automation.runs import reconciler
from pause_manager import holds, nodes
from pause_manager.capacity.needs import Needs
from pause_manager.models import CapacitySample, ControlEvent, FleetWorker, Hold, Machine, PollState, WorkerNode
from pause_manager.nodes.machines import identity, renaming
from pause_manager.nodes.members import acknowledge
from pause_manager.nodes.rollup import MinuteRollup
from pause_manager.probes import processes
from tests.integration.nodes.test_nodes import capacity
from tests.support.factories import OPERATOR, make_run, stage_of
from tests.support.node_factories import make_node, make_sample
from tests.support.pipelines import Few

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_known", "")
    monkeypatch.setattr(renaming, "_warned", "")


def reports(name: str, wanted: str, *, node: str = "old", silent_seconds: float = 0) -> None:
    """Another worker of this machine, as it has told of itself."""
    acknowledge(name, node=node, queues=["stages"], version=1, boot_id=processes.boot_id(), wanted_node=wanted)
    FleetWorker.objects.filter(name=name).update(last_seen_at=Now() - timedelta(seconds=silent_seconds))


@pytest.fixture
def wants_another(settings: Any) -> None:
    """This machine is ``old``, a worker of it is at work, and this process wants it to be ``new``."""
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "node": "new"}
    Machine.objects.create(boot_id=processes.boot_id(), name="old")
    reports("w@old", "")


@pytest.fixture
def renames(settings: Any) -> None:
    """This machine is ``old`` and has a node, and no worker keeps this process from calling it ``new``."""
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "node": "new"}
    Machine.objects.create(boot_id=processes.boot_id(), name="old")
    make_node("old")


def rename() -> None:
    assert renaming.settle_name() == "new"


@pytest.mark.usefixtures("wants_another")
def test_it_knows_the_name_that_the_machine_has():
    """By that name it samples, asks for room within its container's limits, and finds the cards that it may use."""
    assert (renaming.settle_name(), identity.known_name()) == ("old", "old")
    assert (identity.name(), identity.known_name()) == ("old", "old")


@pytest.mark.usefixtures("wants_another")
def test_a_machine_is_renamed_as_soon_as_all_of_its_live_workers_want_it():
    reports("w@one", "new")
    reports("w@two", "new")
    assert renaming.settle_name() == "old", "one is left that does not"

    reports("w@old", "", silent_seconds=11)

    assert (renaming.settle_name(), identity.known_name()) == ("new", "new")
    assert set(FleetWorker.objects.values_list("node", flat=True)) == {"new"}
    event = ControlEvent.objects.get(action="node_renamed")
    assert (event.scope, event.before, event.after) == ("node:new", {"name": "old"}, {"name": "new"})


@pytest.mark.usefixtures("wants_another")
def test_a_worker_of_an_older_release_keeps_the_name_that_it_reports_under():
    FleetWorker.objects.all().delete()
    acknowledge("w@older", node="old", queues=["stages"], version=1)
    assert renaming.settle_name() == "old"

    FleetWorker.objects.filter(name="w@older").delete()

    assert renaming.settle_name() == "new"


@pytest.mark.usefixtures("wants_another")
def test_a_process_of_the_pool_hears_of_the_new_name():
    """It renames nothing itself: the worker's main process does."""
    assert identity.name() == "old"
    Machine.objects.update(name="new")

    assert (identity.name(), identity.known_name()) == ("new", "new")


@pytest.mark.usefixtures("wants_another")
def test_a_machine_is_not_given_the_name_of_another_that_lives():
    FleetWorker.objects.all().delete()
    Machine.objects.create(boot_id="another", name="new")

    with pytest.raises(identity.NameTaken, match="Another machine is the node new"):
        renaming.settle_name()

    assert Machine.objects.get(pk=processes.boot_id()).name == "old"
    assert len(identity.contested()) == 1


def test_who_asks_for_which_name_is_told(client: Client):
    Machine.objects.create(boot_id=processes.boot_id(), name="old")
    reports("a@1", "old")
    reports("b@1", "")
    assert renaming.differing() == [], "who wants none goes along"
    reports("c@1", "new")
    reports("d@1", "newer", silent_seconds=11)

    make_node("old")
    [sentence] = renaming.differing()

    assert sentence == (
        "workers of old ask for different names of their machine: old (a@1), new (c@1), none (b@1); it is called old "
        "until all of them have the same SLACKWATER_NODE"
    )
    assert capacity().strip().endswith(f"W{sentence[1:]}.")
    assert client.get("/readyz").json()["checks"]["machines"] == sentence
    FleetWorker.objects.exclude(name="c@1").delete()
    assert renaming.differing() == [], "it is about to be renamed"


@pytest.mark.usefixtures("renames")
def test_a_hold_is_the_same_hold_on_the_new_name():
    holds.place(["node:old"], actor=OPERATOR, reason="new memory", mode="drain")
    placed = Hold.objects.get()
    holds.place(["node:old"], kind="freeze", actor=OPERATOR)
    holds.place(["node:new"], kind="freeze", actor=OPERATOR, reason="of before")

    rename()

    assert list(nodes.held()) == ["new"]
    assert not Hold.objects.covering(["node:old"]).exists()
    moved = Hold.objects.active().get(scope="node:new", kind="operator")
    assert (moved.pk, moved.created_at, moved.actor, moved.mode) == (
        placed.pk,
        placed.created_at,
        OPERATOR.name,
        "drain",
    )
    assert Hold.objects.active().get(scope="node:new", kind="freeze").reason == "of before"
    event = ControlEvent.objects.get(action="hold_altered")
    assert (event.scope, event.before, event.after) == ("node:new", {"scope": "node:old"}, {"scope": "node:new"})


@pytest.mark.usefixtures("renames")
def test_threshold_history_and_what_polls_keep_go_along():
    make_node("new", age_seconds=86_400, is_live=False)  # what another machine of that name has left
    sample = make_sample()
    minutes = []
    for second in (60, 120, 180):
        minute = MinuteRollup.of(make_sample(sampled_at=second))
        minute.add(sample)
        minutes.append(minute)
    nodes.save_minute(minutes[0], "new")
    nodes.save_minute(minutes[1], "new")
    nodes.save_minute(minutes[1], "old")
    nodes.save_minute(minutes[2], "old")
    nodes.set_threshold("old", 0.35, actor=OPERATOR)
    needs = {"cpu": 8, "memory_mib": 0, "gpu_memory_mib": 0, "gpus": 0}
    making = {"node": "old", "needs": needs, "ref": "run:x", "since": 1.0, "until": 2.0}
    PollState.objects.create(ramp={"held_for": {"old": {"needs": needs}, "n2": {"needs": needs}}, "making": [making]})

    rename()

    node = WorkerNode.objects.get()
    assert (node.name, node.pause_below) == ("new", 0.35)
    assert CapacitySample.objects.filter(node=node).count() == 3
    [state] = nodes.states()
    assert (state.view.name, state.is_online) == ("new", True), "the last sample tells of it"
    ramp = PollState.objects.get().ramp
    assert (sorted(ramp["held_for"]), [one["node"] for one in ramp["making"]]) == (["n2", "new"], ["new"])


@pytest.mark.usefixtures("renames")
def test_a_sample_under_the_old_name_is_not_kept():
    rename()

    assert nodes.save_sample(make_sample("old")).name == "new"

    assert list(WorkerNode.objects.values_list("name", flat=True)) == ["new"]


@pytest.fixture
def needs_half(monkeypatch: pytest.MonkeyPatch, watching: None) -> None:
    """One loop of the pipeline ``few`` finds room on a node, and no second."""
    monkeypatch.setattr(Few, "needs", Needs(cpu=0, memory_mib=7_000))


def loop_of(run: AutomationRun, name: str = "a") -> LeasedSlice | None:
    """A claim of a loop on this machine that began when that was called ``old``."""
    worker = Worker(f"test/{name}", "old", processes.boot_id())
    room = partial(admission.room_here, needs=Few.needs, pipeline=run.pipeline)
    return leases.claim(stage_of(run).pk, worker, room=room)


@pytest.mark.usefixtures("renames", "needs_half")
def test_what_is_at_work_counts_under_the_new_name():
    """A loop keeps its lease, its next claim is booked where the first one is, and a hold on the node reaches it."""
    run = make_run("few", items=30)
    work = loop_of(run)
    assert work is not None

    rename()

    assert set(WorkSlice.objects.leased().values_list("lease_node", flat=True)) == {"new"}
    with pytest.raises(NoRoom, match=r"^new has [\d,]+ of [\d,]+ MiB of memory free"):
        loop_of(run, "b")
    assert leases.heartbeat(work) is None
    checkpoint.commit(work, Progress(cursor=work.last_key, processed=work.size))
    again = loop_of(run)
    assert again is not None
    assert again.node == "new"
    make_node("elsewhere")
    holds.place(["node:new"], actor=OPERATOR, reason="new memory")
    with pytest.raises(NoRoom, match="new is held: new memory"):
        loop_of(run, "b")


def test_an_item_is_given_up_also_on_a_machine_that_was_refused_its_name(
    settings: Any, monkeypatch: pytest.MonkeyPatch
):
    """Its control worker reaps like any other: nothing stops the control queue."""
    monkeypatch.setattr(identity, "_known", "")
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "node": "big"}
    Machine.objects.create(boot_id="another", name="big")
    run = make_run("scripted", items=1)
    assert leases.claim(stage_of(run).pk, Worker("gone", "n1")) is not None
    WorkSlice.objects.update(crashes=99, is_alone=True)

    assert reconciler.handle_lost_leases(leases.reap(crashed=["gone"])) == 1

    assert WorkSlice.objects.get(stage_run=stage_of(run)).failed == 1
    assert list(Machine.objects.values_list("name", flat=True)) == ["big"]
