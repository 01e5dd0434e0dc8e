"""The GPU probe in front of a driver that answers, hangs, breaks and loses cards. pynvml and the process are real."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from statistics import median

import psutil
import pytest

from pause_manager.probes import gpu
from pause_manager.probes.gpu import GpuProbe, GpuReading
from tests.nvml.driver import DRIVER_NOT_LOADED, GPU_IS_LOST, Card, Driver
from tests.nvml.fixtures import driver, nvml_library  # noqa: F401

DEADLINE = 0.5


@pytest.fixture
def probe(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuProbe]:  # noqa: F811
    for name, value in driver.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu, "FIRST_BACKOFF_SECONDS", 0.2)
    probe = GpuProbe(DEADLINE)
    yield probe
    probe.close()


def settled(probe: GpuProbe, is_so: Callable[[GpuReading], bool], seconds: float = 15) -> GpuReading:
    """Read ten times a second until the reading is so."""
    deadline = time.monotonic() + seconds
    while not is_so(reading := probe.read(frozenset())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_so(reading), reading
    return reading


def is_well(reading: GpuReading) -> bool:
    return bool(reading.gpus) and not reading.problem and all(card.free_mib is not None for card in reading.gpus)


def test_a_card_is_read_in_full(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.cards = [Card(total=81_920, free=60_000, utilisation=73, temperature=66, processes={77: 20_000, 78: 1_000})]
    driver.write()

    settled(probe, is_well)
    [card] = probe.read({77}).gpus

    assert (card.index, card.total_mib, card.free_mib, card.utilisation) == (0, 81_920, 60_000, 0.73)
    assert (card.temperature_c, card.uuid, card.name, card.problem) == (66, "GPU-0", "Test A100", "")
    assert (card.processes, card.own_processes, card.own_mib) == (2, 1, 20_000)


def test_a_driver_that_hangs_is_unknown_within_the_deadline_and_comes_back(
    probe: GpuProbe,
    driver: Driver,  # noqa: F811
) -> None:
    settled(probe, is_well)
    hung, driver.hang = probe.pid, "nvmlDeviceGetMemoryInfo"
    driver.write()

    began = time.monotonic()
    reading = settled(probe, lambda reading: bool(reading.problem))
    took = time.monotonic() - began

    assert took < 2 * DEADLINE + 0.5
    assert reading.problem == "the driver did not answer within 0.5 s"
    assert [(card.total_mib, card.free_mib, card.problem) for card in reading.gpus] == [
        (40_960, None, reading.problem)
    ] * 2, "known cards stay listed, and none of them is free"
    assert hung is not None
    assert not psutil.pid_exists(hung)

    driver.hang = ""
    driver.write()
    settled(probe, is_well)


def test_a_read_never_waits_longer_than_it_was_told(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.hang = "nvmlDeviceGetCount_v2"
    driver.write()

    took = []
    for _ in range(4):
        began = time.monotonic()
        reading = probe.read(frozenset(), wait_seconds=0.05)
        took.append(time.monotonic() - began)
        assert reading.problem
    assert median(took) < 0.3


def test_a_driver_that_is_not_loaded_is_unknown_and_not_absent(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.init = DRIVER_NOT_LOADED
    driver.write()

    reading = settled(probe, lambda reading: "says" in reading.problem)

    assert (reading.problem, reading.gpus) == ("the driver says: Driver Not Loaded", ())


def test_no_driver_library_means_no_gpus_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    probe = GpuProbe(DEADLINE)
    try:
        reading = settled(probe, lambda reading: bool(reading.note))
    finally:
        probe.close()

    assert (reading.gpus, reading.problem) == ((), "")
    assert reading.note == "no GPUs: NVML Shared Library Not Found"


def test_a_lost_card_is_not_free_and_the_other_is(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    settled(probe, is_well)
    driver.cards[1].error = GPU_IS_LOST
    driver.write()

    reading = settled(probe, lambda reading: bool(reading.gpus[1].problem))

    assert (reading.gpus[0].free_mib, reading.gpus[0].problem) == (40_000, "")
    lost = reading.gpus[1]
    assert (lost.total_mib, lost.free_mib, lost.problem) == (40_960, None, "it is lost: it fell off the bus")


def test_a_card_that_the_driver_no_longer_lists_stays_known_as_gone(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    settled(probe, is_well)
    driver.cards.pop()
    driver.write()

    reading = settled(probe, lambda reading: bool(reading.gpus[1].problem))

    assert (reading.gpus[1].free_mib, reading.gpus[1].problem) == (None, "it is gone: the driver no longer lists it")


def test_uncorrected_memory_errors_are_a_problem(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.cards[0].ecc = 3
    driver.write()

    reading = settled(probe, is_well)

    assert [card.problem for card in reading.gpus] == ["it has 3 uncorrected ECC errors", ""]


def test_mig_devices_are_gpus_and_their_card_takes_no_work(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.cards = [Card(), Card(migs={0: (20_096, 20_000), 2: (9_856, 100)}, temperature=51)]
    driver.write()

    reading = settled(probe, is_well)

    assert [(card.index, card.mig_of, card.total_mib, card.free_mib, card.uuid) for card in reading.gpus] == [
        (0, None, 40_960, 40_000, "GPU-0"),
        (1, None, 40_960, 40_000, "GPU-1"),
        (200, 1, 20_096, 20_000, "MIG-200"),
        (202, 1, 9_856, 100, "MIG-202"),
    ]
    assert [bool(card.problem) for card in reading.gpus] == [False, True, False, False]
    assert (reading.gpus[2].temperature_c, reading.gpus[2].utilisation) == (51, None)


def test_a_driver_process_that_is_killed_is_started_again(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    settled(probe, is_well)
    assert probe.pid is not None
    os.kill(probe.pid, 9)

    settled(probe, lambda reading: bool(reading.problem))
    settled(probe, is_well)
