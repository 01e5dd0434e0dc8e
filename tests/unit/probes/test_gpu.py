"""The GPU probe in front of a driver that answers, hangs, breaks and loses cards. pynvml and the process are real."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from statistics import median

import psutil
import pytest

from pause_manager.probes.gpu import probe as gpu_probe
from pause_manager.probes.gpu.probe import GpuProbe, GpuReading
from tests.support.nvml.driver import DRIVER_NOT_LOADED, GPU_IS_LOST, NOT_SUPPORTED, Card, Driver
from tests.support.nvml.fixtures import driver, nvml_library  # noqa: F401

DEADLINE = 0.5


@pytest.fixture
def probe(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuProbe]:  # noqa: F811
    for name, value in driver.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu_probe, "FIRST_BACKOFF_SECONDS", 0.2)
    probe = GpuProbe(DEADLINE)
    yield probe
    probe.close()


def settled(
    probe: GpuProbe, is_so: Callable[[GpuReading], bool], seconds: float = 15, own: Collection[int] = frozenset()
) -> GpuReading:
    """Read ten times per second until the reading is so."""
    deadline = time.monotonic() + seconds
    while not is_so(reading := probe.read(own)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_so(reading), reading
    return reading


def is_well(reading: GpuReading) -> bool:
    return bool(reading.gpus) and not reading.problem and all(card.free_mib is not None for card in reading.gpus)


def test_a_card_is_read_in_full(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.cards = [Card(total=81_920, free=60_000, utilisation=73, temperature=66, processes={77: 20_000, 78: 1_000})]
    driver.write()

    [card] = settled(probe, lambda reading: is_well(reading) and bool(reading.gpus[0].own_processes), own={77}).gpus

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
        (200, "GPU-1", 20_096, 20_000, "MIG-200"),
        (202, "GPU-1", 9_856, 100, "MIG-202"),
    ]
    assert [bool(card.problem) for card in reading.gpus] == [False, True, False, False]
    assert (reading.gpus[2].temperature_c, reading.gpus[2].utilisation) == (51, None)


def test_a_driver_process_that_is_killed_is_started_again(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    settled(probe, is_well)
    assert probe.pid is not None
    os.kill(probe.pid, 9)

    settled(probe, lambda reading: bool(reading.problem))
    settled(probe, is_well)


A, B, C = "GPU-aaaa", "GPU-bbbb", "GPU-cccc"


def three(driver: Driver) -> None:  # noqa: F811
    """Cards that differ."""
    driver.cards = [
        Card(total=81_920, free=81_000, uuid=A, name="H100"),
        Card(total=40_960, free=40_000, uuid=B, name="A100"),
        Card(total=24_576, free=24_000, uuid=C, name="L4"),
    ]
    driver.write()


def by_uuid(reading: GpuReading) -> dict[str, tuple[int, int | None, str]]:
    """Index, free MiB and problem."""
    assert len({card.uuid for card in reading.gpus}) == len(reading.gpus), "no card twice"
    return {card.uuid: (card.index, card.free_mib, card.problem) for card in reading.gpus}


def test_cards_that_differ_are_told_apart(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    three(driver)

    reading = settled(probe, is_well)

    assert [(card.uuid, card.name, card.total_mib) for card in reading.gpus] == [
        (A, "H100", 81_920),
        (B, "A100", 40_960),
        (C, "L4", 24_576),
    ]


def test_a_card_on_which_the_library_aborts_costs_the_others_nothing(
    probe: GpuProbe,
    driver: Driver,  # noqa: F811
) -> None:
    three(driver)
    settled(probe, is_well)
    first, driver.cards[1].aborts, driver.cards[2].free = probe.pid, True, 5_000
    driver.write()

    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        reading = probe.read(frozenset())
        if by_uuid(reading)[C][1] == 5_000:
            break
        time.sleep(0.05)

    assert by_uuid(reading) == {
        A: (0, 81_000, ""),
        B: (1, None, "the driver's library crashes when it is asked"),
        C: (2, 5_000, ""),
    }
    assert probe.pid != first, "another process asks"
    second = probe.pid
    for _ in range(5):
        assert by_uuid(probe.read(frozenset()))[A][1] == 81_000
    assert probe.pid == second, "and the card is left alone"


def test_a_card_that_crashed_is_tried_again_and_is_well(
    probe: GpuProbe,
    driver: Driver,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_probe, "LONGEST_BACKOFF_SECONDS", 1.0)
    three(driver)
    driver.cards[0].aborts = driver.cards[2].aborts = True
    driver.write()
    found = settled(probe, lambda reading: [bool(card.problem) for card in reading.gpus] == [True, False, True])
    assert [(card.id, card.free_mib) for card in found.gpus] == [("0", None), (B, 40_000), ("2", None)]

    driver.cards[0].aborts = driver.cards[2].aborts = False
    driver.write()

    assert set(by_uuid(settled(probe, is_well))) == {A, B, C}, "and none is left of those without a name"


def driver_processes() -> set[int]:
    children = psutil.Process().children()
    return {child.pid for child in children if any("gpu_process.py" in word for word in child.cmdline())}


@pytest.mark.slow
def test_a_card_on_which_the_library_hangs_costs_the_others_nothing(
    probe: GpuProbe,
    driver: Driver,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_probe, "FIRST_BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(gpu_probe, "LONGEST_BACKOFF_SECONDS", 1.0)
    three(driver)
    settled(probe, is_well)
    first, driver.cards[1].hangs, driver.cards[2].free = probe.pid, True, 5_000
    driver.write()

    hung = {A: (0, 81_000, ""), B: (1, None, "the driver's library hangs when it is asked"), C: (2, 5_000, "")}
    settled(probe, lambda reading: by_uuid(reading) == hung, 6)
    second, driver.cards[2].free = probe.pid, 4_000
    driver.write()
    assert second != first, "another process asks"
    settled(probe, lambda reading: by_uuid(reading)[C] == (2, 4_000, ""))

    trials, most = set(), 0
    until = time.monotonic() + 5
    while time.monotonic() < until:
        reading = by_uuid(probe.read(frozenset()))
        assert (reading[A][1], reading[B][1], reading[C][1]) == (81_000, None, 4_000), "while it is tried again, too"
        trials |= {probe.pid_of_trial} - {None}
        most = max(most, len(driver_processes()))
        time.sleep(0.05)
    assert probe.pid == second, "the others are asked by the same process on and on"
    assert 2 <= len(trials) <= 5, "it is tried again, each time in a process of its own"
    assert most == 2, "and one at a time"
    assert not any(psutil.pid_exists(pid) for pid in trials if pid not in (None, probe.pid_of_trial))

    driver.cards[1].hangs = False
    driver.write()
    settled(probe, is_well)
    assert probe.pid == second


def test_the_only_card_that_hangs_is_the_driver_that_hangs(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.cards = [Card()]
    driver.write()
    settled(probe, is_well)
    driver.cards[0].hangs = True
    driver.write()

    reading = settled(probe, lambda reading: bool(reading.problem))

    assert (reading.problem, reading.gpus[0].free_mib) == ("the driver did not answer within 0.5 s", None)
    driver.cards[0].hangs = False
    driver.write()
    settled(probe, is_well)


def test_two_cards_that_hang_leave_the_third(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    three(driver)
    settled(probe, is_well)
    driver.cards[0].hangs = driver.cards[2].hangs = True
    driver.write()

    settled(probe, lambda reading: [bool(card.problem) for card in reading.gpus] == [True, False, True])


def test_a_count_that_falls_and_an_order_that_shifts_mix_up_nothing(
    probe: GpuProbe,
    driver: Driver,  # noqa: F811
) -> None:
    three(driver)
    settled(probe, is_well)
    del driver.cards[0]
    driver.cards[0].processes = {os.getpid(): 700}
    driver.write()

    reading = settled(probe, lambda reading: any(card.problem for card in reading.gpus))

    assert by_uuid(reading) == {
        B: (0, 40_000, ""),
        A: (0, None, "it is gone: the driver no longer lists it"),
        C: (1, 24_000, ""),
    }
    own = {card.uuid: card.own_mib for card in probe.read({os.getpid()}).gpus}
    assert own == {A: 0, B: 700, C: 0}

    driver.cards.append(Card(total=81_920, free=80_000, uuid=A, name="H100"))
    driver.write()
    assert by_uuid(settled(probe, is_well)) == {B: (0, 40_000, ""), C: (1, 24_000, ""), A: (2, 80_000, "")}


def test_a_lost_card_is_known_under_another_number(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    three(driver)
    settled(probe, is_well)
    driver.cards = [driver.cards[1], driver.cards[2], driver.cards[0]]
    driver.cards[2].error = GPU_IS_LOST
    driver.write()

    reading = settled(probe, lambda reading: any(card.problem for card in reading.gpus))

    assert by_uuid(reading) == {B: (0, 40_000, ""), C: (1, 24_000, ""), A: (2, None, "it is lost: it fell off the bus")}


def test_parts_of_a_mig_card_that_is_lost_stay_known(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    driver.cards = [Card(), Card(migs={0: (20_096, 20_000)})]
    driver.write()
    settled(probe, is_well)
    driver.cards[1].error = GPU_IS_LOST
    driver.write()

    reading = settled(probe, lambda reading: any("lost" in card.problem for card in reading.gpus))

    assert by_uuid(reading)["MIG-200"] == (200, None, "its card: it is lost: it fell off the bus")

    driver.cards[1] = Card(migs={1: (9_856, 9_000)})
    driver.write()
    assert set(by_uuid(settled(probe, is_well))) == {"GPU-0", "GPU-1", "MIG-201"}, "a part that was taken away is none"


@pytest.mark.parametrize("answer", [NOT_SUPPORTED, 0])
def test_memory_that_is_the_machines_is_said_to_be(probe: GpuProbe, driver: Driver, answer: int) -> None:  # noqa: F811
    driver.cards = [Card(unified=answer, processes={os.getpid(): 3_000})]
    driver.write()

    [card] = settled(probe, is_well).gpus

    assert (card.is_unified, card.total_mib, card.problem, card.uuid) == (True, 0, "", "GPU-0")


def test_pids_of_another_namespace_are_nobodys(probe: GpuProbe, driver: Driver) -> None:  # noqa: F811
    nobody = 2**22 + 7  # more than any kernel gives out
    driver.cards = [Card(free=10_000, processes={nobody: 29_000, os.getpid(): 900}), Card(processes={os.getpid(): 800})]
    driver.write()

    settled(probe, is_well)
    deadline = time.monotonic() + 5
    while not (reading := probe.read({os.getpid()})).gpus[0].note and time.monotonic() < deadline:
        time.sleep(0.05)

    strange, own = reading.gpus
    assert strange.note == "cannot tell whose memory is used: the driver's process ids are of another namespace"
    assert (strange.own_mib, strange.own_processes, strange.processes) == (0, 0, 2), "a number that we have by chance"
    assert (own.note, own.own_mib) == ("", 800)

    driver.cards[0].processes = {os.getpid(): 900}
    driver.write()
    deadline = time.monotonic() + 5
    while (reading := probe.read({os.getpid()})).gpus[0].note and time.monotonic() < deadline:
        time.sleep(0.05)
    assert reading.gpus[0].own_mib == 900


def test_a_machine_with_an_amd_card_says_why_it_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    device = tmp_path / "sys/class/drm/card0/device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    probe = GpuProbe(DEADLINE, root=tmp_path)
    try:
        reading = settled(probe, lambda reading: bool(reading.note))
    finally:
        probe.close()

    assert (reading.gpus, reading.problem) == ((), "")
    assert reading.note.startswith("no GPUs: there is an AMD card, and only NVIDIA's can be read")
