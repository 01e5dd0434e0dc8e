"""A task knows the GPUs that it was given, and sees no other where it says so."""

from __future__ import annotations

import json
import time
from typing import Any

import psutil
import pytest

from pause_manager import nodes
from pause_manager.models import FleetWorker, RunningTask
from pause_manager.nodes import report
from tests.support.foreign_project import Foreign, reconciled
from tests.support.nvml.driver import Card, Driver
from tests.support.nvml.fixtures import driver, nvml_library  # noqa: F401
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

OPTIONS = {
    "with_gpus": True,
    "worker_beat_seconds": 0.5,
    "gpu_deadline_seconds": 10.0,
    # Whatever else this machine does.
    "policy": {"thresholds": {"pause_below": 0.0, "resume_above": 0.0, "cpu_slack_cores": 1000.0}},
}
A, B = "GPU-aaaa", "GPU-bbbb"


@pytest.fixture(autouse=True)
def cards(driver: Driver) -> Driver:  # noqa: F811
    """The first is nearly full, by a stranger."""
    driver.cards = [
        Card(total=40_960, free=4_000, uuid=A, name="A100"),
        Card(total=40_960, free=40_000, uuid=B, name="A100"),
    ]
    driver.write()
    return driver


def start(foreign: Foreign, driver: Driver, *options: str, **env: str) -> None:  # noqa: F811
    given = {**driver.env, "FOREIGN_CAPACITY": "1", "FOREIGN_OPTIONS": json.dumps(OPTIONS), **env}
    foreign.worker("one", *(options or ("-c", "2")), **given)
    found = {card.uuid for card in driver.cards}

    def sampled() -> bool:
        return any({gpu.uuid for gpu in state.view.gpus} == found for state in nodes.states())

    assert eventually(sampled, 60), foreign.workers.said("one")[-3000:]


def noted(foreign: Foreign, what: str, count: int = 1) -> list[list[Any]]:
    assert eventually(lambda: len(foreign.notes(what)) >= count, 60), foreign.workers.said("one")[-4000:]
    return [note[1:] for note in foreign.notes(what)]


def test_a_task_is_told_the_card_that_was_booked_for_it(foreign: Foreign, cards: Driver):
    start(foreign, cards)

    foreign.send("on_gpu", 2)

    [[gpus, mask, _]] = noted(foreign, "on_gpu")
    assert gpus == [{"uuid": B, "index": 1, "name": "A100", "memory_mib": 40_960}]
    assert mask is None
    assert RunningTask.objects.get().gpus == [B]


@pytest.mark.slow
def test_a_task_that_isolates_sees_its_card_alone_and_its_process_is_replaced(foreign: Foreign, cards: Driver):
    cards.cards[0].free = 40_000
    cards.write()
    start(foreign, cards)

    together = [foreign.send("on_its_gpu", 2), foreign.send("on_its_gpu", 2)]
    first = noted(foreign, "on_its_gpu", 2)

    assert sorted(gpus for gpus, _, _ in first) == [[A], [B]], "each has one of its own"
    assert all(gpus == [seen] for gpus, seen, _ in first), "and CUDA sees no other"
    assert [foreign.ended(one)[0] for one in together] == ["SUCCESS", "SUCCESS"]

    for _ in range(4):
        foreign.ended(foreign.send("on_its_gpu", 0))
    later = noted(foreign, "on_its_gpu", 6)
    assert all(gpus == [seen] for gpus, seen, _ in later)
    pids = [pid for _, _, pid in later]
    assert len(set(pids)) == 6, "one that has started CUDA takes no other task"
    assert "WorkerLostError" not in foreign.workers.said("one")


@pytest.mark.slow
def test_a_process_that_has_not_started_cuda_is_kept_and_is_as_it_was(foreign: Foreign, cards: Driver):
    start(foreign, cards, "-c", "1")

    for _ in range(2):
        foreign.ended(foreign.send("on_its_gpu", 0, False))
    foreign.ended(foreign.send("on_gpu"))

    isolated = noted(foreign, "on_its_gpu", 2)
    [[_, mask, pid]] = noted(foreign, "on_gpu")
    assert {seen for _, seen, _ in isolated} <= {A, B}
    assert {one[2] for one in isolated} == {pid}
    assert mask is None


@pytest.mark.slow
def test_a_process_in_which_another_task_has_started_cuda_makes_way(foreign: Foreign, cards: Driver):
    start(foreign, cards, "-c", "1")
    foreign.ended(foreign.send("starts_cuda"))
    [[seen, spent]] = noted(foreign, "starts_cuda")
    assert seen == "all"

    sent = foreign.send("on_its_gpu", 0)

    assert reconciled(lambda: foreign.notes("on_its_gpu")), foreign.workers.said("one")[-4000:]
    [[gpus, seen, pid]] = noted(foreign, "on_its_gpu")
    assert gpus == [seen]
    assert pid != spent
    assert foreign.ended(sent)[0] == "SUCCESS"


@pytest.mark.slow
@pytest.mark.parametrize("mask", [A, "0", "GPU-aa"])
def test_a_worker_offers_what_its_mask_leaves(foreign: Foreign, cards: Driver, mask: str):
    start(foreign, cards, CUDA_VISIBLE_DEVICES=mask)
    assert eventually(lambda: FleetWorker.objects.filter(visible_gpus=[A]).exists(), 30)

    foreign.send("on_gpu")  # 8,000 MiB, of which the other card has plenty
    assert not eventually(lambda: foreign.notes("on_gpu"), 3)

    cards.cards[0].free = 20_000
    cards.write()
    assert reconciled(lambda: foreign.notes("on_gpu")), foreign.workers.said("one")[-4000:]
    assert [gpu["uuid"] for gpu in foreign.notes("on_gpu")[0][1]] == [A]


@pytest.mark.slow
def test_a_worker_that_sees_no_card_works_no_gpu_task_and_says_why(foreign: Foreign, cards: Driver):
    from pause_manager.capacity.needs import Needs
    from pause_manager.pause_queue.admission import AdmissionController, take_snapshot
    from pause_manager.pause_queue.ramp import Ramp

    start(foreign, cards, CUDA_VISIBLE_DEVICES="")
    assert eventually(lambda: FleetWorker.objects.filter(visible_gpus=[]).exists(), 30)
    foreign.send("on_gpu")
    foreign.ended(foreign.send("add", 1, 2))

    assert not eventually(lambda: foreign.notes("on_gpu"), 3), "and other work goes on"
    verdict = AdmissionController(take_snapshot(), Ramp()).should_pause(Needs(cpu=0, gpu_memory_mib=8_000))
    assert verdict.sentence.endswith("sees any of its 2 GPUs.")
    assert "CUDA_VISIBLE_DEVICES= leaves none" in foreign.workers.said("one")


@pytest.mark.slow
def test_a_solo_worker_keeps_to_the_card_that_it_has_started_cuda_with(foreign: Foreign, cards: Driver):
    cards.cards[0].free = 40_000
    cards.write()
    start(foreign, cards, "--pool", "solo")

    foreign.ended(foreign.send("on_its_gpu", 0))
    [[[first], _, _]] = noted(foreign, "on_its_gpu")
    for _ in range(2):
        foreign.ended(foreign.send("on_its_gpu", 0))

    assert [note[:2] for note in noted(foreign, "on_its_gpu", 3)] == [[[first], first]] * 3
    assert eventually(lambda: FleetWorker.objects.filter(visible_gpus=[first]).exists(), 30)


@pytest.mark.slow
def test_a_pool_of_threads_fails_what_asks_for_isolation(foreign: Foreign, cards: Driver):
    start(foreign, cards, "--pool", "threads", "-c", "2")

    state, why = foreign.ended(foreign.send("on_its_gpu", 0))

    assert state == "FAILURE"
    assert "this pool works on many tasks in one process" in str(why)
    assert eventually(lambda: not RunningTask.objects.exists())
    foreign.ended(foreign.send("on_gpu"))
    assert noted(foreign, "on_gpu")[0][0][0]["uuid"] == B


@pytest.mark.slow
def test_contexts_that_idle_processes_keep_hide_nothing_of_a_task_that_has_just_started(
    foreign: Foreign, cards: Driver
):
    start(foreign, cards, "-c", "1")
    main = psutil.Process(foreign.workers.processes["one"].pid)
    [child] = [one.pid for one in main.children() if "gpu_process" not in " ".join(one.cmdline())]
    cards.cards[1].free, cards.cards[1].processes = 30_000, {child: 10_000}
    cards.write()

    def card() -> dict[str, Any]:
        [node] = report.shown()
        cards: dict[str, dict[str, Any]] = {gpu["uuid"]: gpu for gpu in node["gpus"]}
        return cards[B]

    def idle() -> int:
        views = [state.view for state in nodes.states()]
        return next((gpu.idle_mib for view in views for gpu in view.gpus if gpu.uuid == B), 0)

    assert eventually(lambda: idle() == 10_000, 20), foreign.workers.said("one")[-3000:]
    assert card()["room_mib"] == 30_000

    foreign.send("on_gpu", 8)
    noted(foreign, "on_gpu")

    headrooms = set()
    for _ in range(25):
        headrooms.add(card()["room_mib"])
        time.sleep(0.2)
    assert headrooms == {30_000 - 8_000}, "with all that is idle in the way of the sensor"
