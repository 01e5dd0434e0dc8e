"""The built-in worlds: a fleet of GPU nodes under foreign load of different shapes, from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks.simulation.world import CPU, SENSOR, Change, Job, Machine, World
from pause_manager.capacity.needs import Needs

_CORES, _MEMORY, _GPU_MIB, _GPUS = 96_000, 393_216, 24_000, 8
_Levels = Iterator[tuple[float, float]]
_Shape = Callable[[random.Random, float], _Levels]


def steps(dice: random.Random, horizon: float) -> _Levels:
    """Other processes come and go at random: 10 % or 70 %, two hours on average."""
    at, is_high = 0.0, dice.random() < 0.5
    while at < horizon:
        yield at, 0.7 if is_high else 0.1
        at += dice.expovariate(1 / 7200)
        is_high = not is_high


def ramps(dice: random.Random, horizon: float) -> _Levels:
    """Up from 10 % to 90 % and down again in four hours, every node at its own time."""
    phase = dice.random() * 14400
    for at in range(0, int(horizon), 600):
        way = ((at + phase) % 14400) / 14400
        yield float(at), 0.1 + 0.8 * (2 * way if way < 0.5 else 2 - 2 * way)


def days(dice: random.Random, horizon: float) -> _Levels:
    """Busy by day, free by night, all nodes together."""
    for at in range(0, int(horizon), 600):
        sun = math.sin((at / 86400 - 0.25) * 2 * math.pi)
        yield at + dice.random() * 60, min(1.0, max(0.0, 0.45 + 0.4 * sun + dice.gauss(0, 0.03)))


def bursts(dice: random.Random, horizon: float) -> _Levels:
    """A fifth in use, and now and then nearly everything for one to ten minutes."""
    at = 0.0
    yield at, 0.2
    while (at := at + dice.expovariate(1 / 7200)) < horizon:
        yield at, 0.95
        at += dice.uniform(60, 600)
        yield at, 0.2


def flapping(dice: random.Random, horizon: float) -> _Levels:
    """Free share varies by 5 % to either side of the pause threshold, or of the resume threshold."""
    middle, half = dice.choice((0.8, 0.7)), dice.choice((5.0, 11.0, 20.0, 45.0, 90.0))
    at, sign = dice.random() * half, 1
    yield 0.0, middle
    while at < horizon:
        yield at, middle + 0.05 * sign
        at += half
        sign = -sign


_SHAPES: dict[str, tuple[_Shape, float]] = {
    "steps": (steps, 24.0),
    "ramps": (ramps, 24.0),
    "days": (days, 48.0),
    "bursts": (bursts, 24.0),
    "flapping": (flapping, 1.0),
    "sensors": (steps, 24.0),
    "queues": (steps, 24.0),
}
NAMES = tuple(_SHAPES)


def scenario(name: str, *, seed: int, nodes: int = 1000, runs: int = 10_000, hours: float | None = None) -> World:
    """The built-in world ``name`` with ``nodes`` nodes of 8 GPUs and ``runs`` runs of ours."""
    shape, usual = _SHAPES[name]
    horizon = (hours or usual) * 3600
    dice = random.Random(f"{name}:{seed}")
    machines = [Machine(f"node-{number:04d}", _CORES, _MEMORY, _GPUS, _GPU_MIB) for number in range(nodes)]
    changes = [change for number in range(nodes) for change in _foreign(number, shape, dice, horizon)]
    if name == "sensors":
        changes += [change for number in range(nodes) for change in _lost_sensors(number, dice, horizon)]
    changes.sort()
    jobs = [_job(number, dice, horizon) for number in range(runs)]
    if name == "queues":
        machines, jobs = _halved(machines, jobs, dice)
    return World(name, machines, jobs, changes, horizon, [f"{shape.__doc__}"])


def _foreign(number: int, shape: _Shape, dice: random.Random, horizon: float) -> Iterator[Change]:
    """CPU and the memory of half of the GPUs go together: foreign jobs use both."""
    gpus = [index for index in range(_GPUS) if dice.random() < 0.5]
    for at, level in shape(dice, horizon):
        yield Change(at, number, CPU, round(level * _CORES))
        for index in gpus:
            yield Change(at, number, index, round(level * _GPU_MIB))


def _lost_sensors(number: int, dice: random.Random, horizon: float) -> Iterator[Change]:
    """One node in five loses its GPUs' driver or all its samples for up to an hour."""
    if dice.random() < 0.2:
        at = dice.random() * horizon
        yield Change(at, number, SENSOR, dice.choice((1, 2)))
        yield Change(at + dice.uniform(60, 3600), number, SENSOR, 0)


def _halved(machines: list[Machine], jobs: list[Job], dice: random.Random) -> tuple[list[Machine], list[Job]]:
    """Half of the nodes do not serve the queue of half of the runs, nor of any that needs GPUs."""
    both, one = frozenset({"default", "large"}), frozenset({"default"})
    served = [replace(machine, queues=one if number % 2 else both) for number, machine in enumerate(machines)]
    queued = [replace(job, queue="large" if job.needs.gpus or dice.random() < 0.5 else "default") for job in jobs]
    return served, queued


def _job(number: int, dice: random.Random, horizon: float) -> Job:
    """More work than other processes leave room for in the first half; most of it is long."""
    needs = dice.choices(
        (
            Needs(cpu=8, memory_mib=16_000),
            Needs(cpu=24, memory_mib=48_000),
            Needs(cpu=8, memory_mib=16_000, gpu_memory_mib=6_000, gpus=1),
            Needs(cpu=12, memory_mib=24_000, gpu_memory_mib=22_000, gpus=1),
            Needs(cpu=32, memory_mib=96_000, gpu_memory_mib=16_000, gpus=4),
        ),
        weights=(20, 35, 20, 15, 10),
    )[0]
    work = min(horizon / 2, dice.lognormvariate(math.log(horizon / 8), 0.8))
    priority = dice.choices((1, 2, 3, 4, 5), weights=(5, 15, 60, 15, 5))[0]
    return Job(f"run-{number:05d}", needs, dice.random() * horizon * 0.6, work, priority)
