"""A real worker, the real pynvml, and a driver of ours."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.probes.processes import host_name
from tests.integration.nodes.test_nodes import capacity
from tests.integration.nodes.test_sampling import sampled_after, send, the_node
from tests.support.nvml.driver import Card, Driver
from tests.support.nvml.fixtures import driver, nvml_library  # noqa: F401
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load")]


def with_gpus(condition: Any, seconds: float = 20) -> Any:
    """The node's view, once its GPUs are so."""

    def met() -> Any:
        state = the_node()
        return state.view if state is not None and condition(state.view) else None

    return eventually(met, seconds)


@pytest.mark.slow
def test_the_gpus_of_a_worker_are_seen_with_our_share(workers: Workers, driver: Driver) -> None:  # noqa: F811
    worker = workers.start("stages", env=driver.env)
    assert with_gpus(lambda view: len(view.gpus) == 2)
    [child] = [
        process.pid for process in psutil.Process(worker.pid).children() if "celery" in " ".join(process.cmdline())
    ]

    driver.cards[1] = Card(free=10_000, utilisation=88, processes={child: 9_000, 1: 20_000})
    driver.write()
    view = with_gpus(lambda view: view.gpus and view.gpus[1].free_mib == 10_000)

    assert view
    card = view.gpus[1]
    assert (card.own_mib, card.own_processes, card.processes, card.utilisation) == (9_000, 1, 2, 0.88)


@pytest.mark.slow
def test_a_driver_that_hangs_is_unknown_in_time_and_the_worker_works_on(
    workers: Workers,
    driver: Driver,  # noqa: F811
    tmp_path: Any,
) -> None:
    worker = workers.start("stages", "-Q", "stages", "-c", "1", "--include", "tests.support.busy_tasks", env=driver.env)
    assert with_gpus(lambda view: len(view.gpus) == 2)

    driver.hang = "nvmlDeviceGetMemoryInfo"
    driver.write()
    began = time.monotonic()
    view = with_gpus(lambda view: view.gpu_problem)
    took = time.monotonic() - began

    assert view
    assert [card.free_mib for card in view.gpus] == [None, None]
    assert took < 2 + 1 + 1, "the deadline, one sample, and some"
    assert with_gpus(lambda view: view.gpu_problem == "the driver did not answer within 2 s")
    send("tests.note", str(tmp_path / "noted"), 1)
    assert eventually(lambda: (tmp_path / "noted").exists()), "tasks go on"
    fresh = sampled_after(time.time() - 0.5)
    assert fresh is not None, "samples go on"
    assert worker.poll() is None

    driver.hang = ""
    driver.write()
    assert with_gpus(lambda view: not view.gpu_problem and view.gpus[0].free_mib == 40_000, 30)
    assert view.name == host_name()


@pytest.mark.slow
@pytest.mark.usefixtures("watching")
def test_a_driver_that_hangs_as_it_starts_is_told_keeps_no_cpu_work_and_heals(
    workers: Workers,
    driver: Driver,  # noqa: F811
    tmp_path: Any,
) -> None:
    driver.hang = "nvmlInitWithFlags"
    driver.write()
    workers.start("stages", "-Q", "stages", "-c", "1", "--include", "tests.support.busy_tasks", env=driver.env)

    view = with_gpus(lambda view: view.gpu_problem == "the driver did not answer within 10 s", 30)

    assert view
    assert view.gpus == (), "nobody has seen a card yet"
    unknown = f"he GPUs of {view.name} are unknown: the driver did not answer within 10 s"
    assert f"{unknown}; it takes no GPU work, and CPU work as ever" in capacity()
    verdict = manager.should_pause(Needs(cpu=0, gpus=1, gpu_memory_mib=1_000), queue="stages")
    assert unknown in verdict.sentence
    assert not manager.should_pause(Needs(cpu=0, memory_mib=1), queue="stages").should_pause
    send("tests.note", str(tmp_path / "noted"), 1)
    assert eventually(lambda: (tmp_path / "noted").exists()), "tasks go on"

    driver.hang = ""
    driver.write()

    assert with_gpus(lambda view: not view.gpu_problem and len(view.gpus) == 2, 40)
    assert unknown not in capacity()


@pytest.mark.slow
def test_nothing_is_left_of_the_driver_process_when_the_worker_is_killed(
    workers: Workers,
    driver: Driver,  # noqa: F811
) -> None:
    worker = workers.start("stages", env=driver.env)
    assert with_gpus(lambda view: len(view.gpus) == 2)
    children = psutil.Process(worker.pid).children()
    [probe] = [process for process in children if "gpu_process.py" in " ".join(process.cmdline())]
    driver.hang = "nvmlDeviceGetMemoryInfo"
    driver.write()
    time.sleep(1.2)

    workers.kill("stages")

    assert eventually(lambda: not probe.is_running() or probe.status() == psutil.STATUS_ZOMBIE, 5)
