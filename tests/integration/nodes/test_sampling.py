"""Real workers sample the machine that they are on, and it is known as one node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from backend.celery import app
from pause_manager import nodes
from pause_manager.models import WorkerNode
from pause_manager.probes.processes import host_name
from pause_manager.probes.sample import Sample
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load")]


def the_node() -> nodes.KnownNode | None:
    """This machine's state, while it is online."""
    return next((state for state in nodes.states() if state.is_online), None)


def send(task: str, *args: object, queue: str = "stages") -> None:
    """A message to a worker."""
    app.send_task(task, args, queue=queue)


def sampled_after(moment: float, seconds: float = 10) -> nodes.KnownNode | None:
    def fresh() -> nodes.KnownNode | None:
        state = the_node()
        return state if state is not None and state.sample.view.sampled_at > moment else None

    return eventually(fresh, seconds)


def test_a_worker_samples_its_machine_and_is_seen(workers: Workers) -> None:
    workers.start("stages")

    state = sampled_after(0)

    assert state is not None
    view = state.view
    assert (view.name, view.is_online, view.gpus, view.allocations) == (host_name(), True, (), ())
    assert view.cores == pytest.approx(len(os.sched_getaffinity(0)), abs=0.001)
    assert 0 < view.free_memory_mib < view.memory_mib <= psutil.virtual_memory().total >> 20
    assert 0 <= view.foreign_cores <= view.cores
    assert state.sample.own_processes >= 2, "the main process and its child"
    assert state.view.gpu_note.startswith("no GPUs: ")
    assert [node.name for node in nodes.live_nodes()] == [host_name()]


@pytest.mark.slow
def test_several_workers_of_a_machine_are_one_node(workers: Workers) -> None:
    workers.start("stages", wait=False)
    workers.start("other")
    eventually(lambda: " ready." in workers.said("stages"))

    state = eventually(lambda: (found := the_node()) and found.sample.own_processes >= 4 and found)

    assert state, "two main processes and two children are ours"
    assert WorkerNode.objects.count() == 1


@pytest.mark.slow
def test_another_worker_takes_over_when_the_one_that_samples_is_killed(workers: Workers) -> None:
    workers.start("first")
    assert sampled_after(0)
    workers.start("second")

    workers.kill("first")
    killed_at = time.time()
    state = sampled_after(killed_at)

    assert state is not None
    assert time.time() - killed_at < 3.5, "the node was never offline"


@pytest.mark.slow
def test_a_node_is_offline_after_three_missed_samples_and_not_before(workers: Workers) -> None:
    workers.start("stages")
    assert sampled_after(0)
    time.sleep(1)

    workers.kill("stages")
    killed_at = time.monotonic()
    gone = eventually(lambda: the_node() is None, 10)

    assert gone
    assert 2.0 <= time.monotonic() - killed_at <= 6
    [offline] = nodes.live_nodes()
    assert (offline.name, offline.is_online) == (host_name(), False)


@pytest.mark.slow
def test_foreign_load_is_seen_as_foreign_and_our_own_is_not(workers: Workers) -> None:
    worker = workers.start("stages")
    before = sampled_after(0)
    assert before is not None
    burn = [sys.executable, "-c", "while True: pass"]

    stranger = subprocess.Popen(burn, start_new_session=True)
    try:
        seen = eventually(lambda: (now := the_node()) and foreign_pids_burn(now, stranger.pid) and now, 15)
        assert seen
        assert seen.view.foreign_cores > 0.4
    finally:
        stranger.kill()
        stranger.wait()
    assert worker.poll() is None


def foreign_pids_burn(state: nodes.KnownNode, pid: int) -> bool:
    """Whether the sample is a whole interval younger than ``pid``, so that all its use is in it."""
    return state.sample.view.sampled_at > psutil.Process(pid).create_time() + 2.2


@pytest.mark.slow
def test_a_sigstopped_worker_lets_its_node_go_offline_and_come_back(workers: Workers) -> None:
    worker = workers.start("stages")
    assert sampled_after(0)

    worker.send_signal(signal.SIGSTOP)
    assert eventually(lambda: the_node() is None, 12)
    worker.send_signal(signal.SIGCONT)

    assert sampled_after(time.time() - 1) is not None


def cpu_seconds_of(worker: int) -> float:
    """What the worker and its children have used, by psutil."""
    top = psutil.Process(worker)
    return sum(sum(process.cpu_times()[:2]) for process in [top, *top.children(recursive=True)])


@pytest.mark.slow
def test_what_our_own_tasks_burn_is_ours_and_not_foreign(workers: Workers) -> None:
    worker = workers.start("stages", "-Q", "stages", "-c", "2", "--include", "tests.support.busy_tasks")
    assert sampled_after(0)
    for _ in range(2):
        send("tests.burn", 14)
    assert eventually(lambda: (now := the_node()) and now.sample.own_cores > 0.5, 10)

    samples: dict[float, Sample] = {}
    began, used_before = time.time(), cpu_seconds_of(worker.pid)
    while time.time() < began + 6:
        if (state := the_node()) is not None and state.sample.view.sampled_at > began:
            samples[state.sample.view.sampled_at] = state.sample
        time.sleep(0.3)
    own_truth = (cpu_seconds_of(worker.pid) - used_before) / (time.time() - began)

    seen = list(samples.values())
    own = sum(sample.own_cores for sample in seen) / len(seen)
    assert own_truth > 0.5
    assert own == pytest.approx(own_truth, rel=0.2, abs=0.1)
    for sample in seen:
        strangers = sample.busy_cores - sample.own_cores
        if sample.foreign_corrected_by:
            assert sample.view.foreign_cores <= sample.view.cores
        else:
            assert sample.view.foreign_cores == pytest.approx(max(0.0, strangers), abs=0.05)


@pytest.mark.slow
def test_a_node_is_seen_until_the_last_task_of_a_stopping_worker_has_ended(workers: Workers) -> None:
    worker = workers.start("stages", "-Q", "stages", "-c", "1", "--include", "tests.support.busy_tasks")
    assert sampled_after(0)
    send("tests.burn", 6)
    # Celery waits half a minute for a task that it was told to end within milliseconds of receiving it.
    assert eventually(lambda: "received" in workers.said("stages"))
    time.sleep(1)

    worker.terminate()
    told_at = time.time()
    time.sleep(3)

    state = sampled_after(told_at + 1.5, 3)
    assert state is not None
    assert worker.wait(20) == 0
    assert eventually(lambda: the_node() is None, 6)
