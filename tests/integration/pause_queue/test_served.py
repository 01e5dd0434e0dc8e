"""Work goes where a live worker serves its queue; without one it waits, and says so."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models import F

from automation import gate
from automation.models import AutomationRun, Ticket
from pause_manager import holds, manager
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import ContainerView
from pause_manager.models import FleetWorker, PauseQueueEntry
from pause_manager.nodes import members, report
from pause_manager.observability import exposition
from pause_manager.pause_queue import outlook, unserved
from pause_manager.pause_queue.admission import open_admission
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.probes import processes
from tests.support.factories import OPERATOR, make_run, tickets
from tests.support.node_factories import make_node
from tests.support.sampled_fleet import HERE, deliver, full, gpu, messages, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def serves(name: str, *queues: str) -> None:
    """A live worker on the node ``name`` reports its queues."""
    members.acknowledge(f"w@{name}", node=name, queues=queues, version=1, owner=f"owner of {name}")


def waiting(run: AutomationRun) -> PauseQueueEntry:
    return PauseQueueEntry.objects.waiting().get(ref=run.scope)


@pytest.mark.req("P-37", "P-13")
def test_a_node_with_room_that_does_not_serve_the_queue_is_nowhere_to_go():
    full()
    serves(HERE, "stages", "control")
    node("control-box")
    serves("control-box", "control")

    assert not manager.should_pause(Needs()).should_pause, "of any queue, there is room"
    told = manager.should_pause(Needs(), queue="stages")
    run = make_run()

    assert (told.should_pause, told.code) == (True, "below_threshold")
    assert told.sentence.startswith(f"{HERE}, the only node that can run this, has 0 of 8 cores free")
    entry = waiting(run)
    assert (entry.queue, entry.work_queue, tickets(run)) == ("control", "stages", 0)
    assert manager.poll().sent == 0
    node()
    assert manager.poll().sent == 1


@pytest.mark.req("P-13", "P-37")
def test_without_a_worker_of_the_queue_work_waits_with_a_reason_of_its_own():
    node("control-box")
    serves("control-box", "control")

    run = make_run()
    manager.pause_work([WithheldDispatch("import:1", "others.work", "gpu", Needs())], reason="full")

    sentence = "No live worker serves the queue stages."
    assert waiting(run).reason == sentence
    assert manager.poll().sent == 0
    run.refresh_from_db()
    (reason,) = gate.explain(run)
    assert (reason.code, reason.sentence) == ("no_worker", f"{sentence} Next look in 10 s.")
    now = outlook.of_ref("import:1")
    assert now is not None
    assert (now.code, now.why) == ("no_worker", "No live worker serves the queue gpu.")
    assert unserved.every() == ["gpu", "stages"]
    (told,) = [metric for metric in exposition.read() if metric.name == "slackwater_queue_unserved"]
    assert [(sample.labels, sample.value) for sample in told.samples] == [
        ({"queue": "gpu"}, 1),
        ({"queue": "stages"}, 1),
    ]

    node()
    serves(HERE, "stages", "gpu")

    assert unserved.every() == []
    assert [manager.poll().sent for _ in range(2)] == [1, 1]


@pytest.mark.req("P-13")
def test_a_run_whose_worker_has_gone_says_so_though_it_is_not_parked():
    node()
    serves(HERE, "stages", "control")
    node("control-box")
    serves("control-box", "control")
    run = make_run()
    assert tickets(run) > 0
    assert gate.explain(run) == []

    FleetWorker.objects.filter(node=HERE).update(last_seen_at=F("last_seen_at") - timedelta(minutes=1))

    run.refresh_from_db()
    (reason,) = gate.explain(run)
    assert (reason.code, reason.sentence) == ("no_worker", "No live worker serves the queue stages.")
    assert unserved.every() == ["stages"], "its messages are out"
    Ticket.objects.all().delete()


def test_the_control_queue_is_served_wherever_a_worker_lives():
    node()
    serves(HERE)
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")

    assert unserved.every() == []
    assert manager.poll().sent == 1


def test_newcomers_queue_behind_nothing_that_wants_other_nodes():
    node(cores=10, foreign=7.5)
    serves(HERE, "stages", "control")
    node("gpu-box", cores=10, foreign=7.5)
    serves("gpu-box", "gpu")
    manager.pause_work([WithheldDispatch("import:1", "others.work", "gpu", Needs())], reason="full")

    assert tickets(make_run()) > 0
    Ticket.objects.all().delete()
    manager.pause_work([WithheldDispatch("import:2", "others.work", "stages", Needs())], reason="full")
    assert waiting(make_run()).reason.startswith("Queued behind work")


def test_what_is_on_its_way_takes_room_where_it_is_served_only():
    node(cores=1)
    serves(HERE, "stages", "control")
    node("zz-other", cores=1)  # of two nodes alike the first by name is taken
    serves("zz-other", "gpu")
    manager.pause_work([WithheldDispatch("import:1", "others.work", "gpu", Needs())], reason="full")
    assert manager.poll().sent == 1

    assert tickets(make_run("scripted")) == 1, "the core of the other node is promised, not this one"
    assert len(messages("gpu")) == 1


def masked(queue: str, *cards: str) -> None:
    """A live worker on this node serves ``queue``, and its ``CUDA_VISIBLE_DEVICES`` names these cards."""
    members.acknowledge(
        f"{queue}@{HERE}", node=HERE, queues=[queue], version=1, owner=f"owner of {queue}", visible_gpus=cards or None
    )


@pytest.mark.req("P-37", "P-13")
def test_work_is_promised_only_the_cards_that_a_worker_of_its_queue_sees():
    """Beside the masked worker one that serves another queue sees all cards."""
    node(cores=64, gpus=(gpu(0), gpu(1)))
    masked("other")
    masked("gpu", "GPU-0")
    one, two = Needs(gpus=1), Needs(gpus=2)
    manager.pause_work(
        [WithheldDispatch(f"import:{needs.gpus}", "others.work", "gpu", needs) for needs in (two, one)], reason=""
    )

    assert manager.poll().sent == 1, "the one that needs one card"
    (waits,) = PauseQueueEntry.objects.waiting()
    assert waits.ref == "import:2"
    now = outlook.of_ref("import:2")
    assert now is not None
    why = (
        "No online node can ever run this: it needs 1 core, 2 GPUs; "
        f"no worker of the queue gpu on {HERE} sees more than 1 of its 2 GPUs."
    )
    assert (now.code, now.why) == ("no_eligible_node", why)
    assert manager.should_pause(two, queue="gpu").sentence == why
    assert not manager.should_pause(two, queue="other").should_pause

    masked("gpu", "GPU-1")
    assert manager.should_pause(two, queue="gpu").should_pause, "the worker that saw the other card has gone"
    masked("gpu")
    assert not manager.should_pause(two, queue="gpu").should_pause


def test_newcomers_queue_behind_nothing_whose_workers_do_not_see_the_cards_here():
    node(cores=64, gpus=(gpu(0), gpu(1)))
    masked("stages")
    masked("gpu", "GPU-0")
    needs = Needs(cpu=0.001, gpu_memory_mib=14_000, gpus=2)
    manager.pause_work([WithheldDispatch("import:2", "others.work", "gpu", needs)], reason="full")
    desk = open_admission()
    assert desk is not None

    assert not desk.must_queue(needs, 3, queue="stages"), "it waits for a worker that sees both"
    masked("gpu")
    desk = open_admission()
    assert desk is not None
    assert desk.must_queue(needs, 3, queue="stages")


def test_who_sees_which_cards_is_shown(capsys: pytest.CaptureFixture[str]):
    node(gpus=(gpu(0), gpu(1)))
    masked("other")
    masked("gpu", "GPU-0")

    call_command("capacity")
    said = capsys.readouterr().out
    assert f"Workers of the queue gpu on {HERE} see GPU 0 and no other." in said
    assert "queue other" not in said
    call_command("capacity", "--json")
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    [shown] = report.shown()
    for told in (line, shown):
        assert [(one["queues"], one["gpus"]) for one in told["workers"]] == [
            (["control", "other"], None),
            (["control", "gpu"], ["GPU-0"]),
        ]


def test_a_worker_of_an_older_release_that_does_not_tell_rules_nothing_out():
    node()
    members.acknowledge("old@here", node=HERE, queues=[], version=1)

    assert not manager.should_pause(Needs(), queue="stages").should_pause


def test_work_is_sent_to_no_machine_on_which_only_another_container_is_large_enough():
    """It would be refused there at each claim, and be sent again."""
    place = f"{processes.boot_id()[:8]}/pid:[1]"
    small, large = f"small~1/{place}", f"large~2/{place}"
    containers = (ContainerView(small, "small", cores=0.5), ContainerView(large, "large"))
    make_node(HERE, containers=containers)
    for key, queue in ((small, "stages"), (large, "control")):
        members.acknowledge("w", node=HERE, queues=[queue], version=1, owner=f"{key}/7/100")

    run = make_run()

    assert tickets(run) == 0
    assert PauseQueueEntry.objects.waiting().get(ref=run.scope).reason.startswith("No online node can ever run this")
    members.acknowledge("w", node=HERE, queues=["control", "stages"], version=1, owner=f"{large}/7/100")
    manager.poll()
    deliver()
    assert tickets(run) == 1


def test_a_held_node_is_not_said_to_have_no_worker():
    node()
    serves(HERE, "stages")
    node("control-box")
    serves("control-box", "control")
    holds.place([f"node:{HERE}"], actor=OPERATOR, reason="new memory")

    told = manager.should_pause(Needs(), queue="stages")

    assert (told.code, told.should_pause) == ("no_online_node", True)
    assert told.sentence == (
        f"No node is online that serves the queue stages: {HERE} takes no work. Held by an operator: {HERE}."
    )
    assert manager.should_pause(Needs(), queue="other").code == "no_worker"
