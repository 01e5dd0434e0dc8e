"""The figures of a simulation, for people and for ``--json``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.oracle import Oracle
from benchmarks.simulation.world import World


@dataclass(frozen=True)
class Figures:
    scenario: str
    seed: int
    nodes: int
    gpus: int
    runs: int
    unrunnable: int
    """Runs that no node could ever run; they are in no other figure."""
    horizon_seconds: float
    utilisation: float
    """Useful core-seconds of our runs by what other processes left free."""
    oracle_utilisation: float
    ratio: float
    gpu_utilisation: float
    """The same by GPUs, each counted by the share of its memory that a run declared."""
    oracle_gpu_utilisation: float
    gpu_ratio: float
    oversubscribed_seconds: float
    """Node-seconds in which other processes and our loops together needed more than there is."""
    oversubscribed_events: int
    oversubscribed_seconds_per_event: float
    oversubscribed_worst_seconds: float
    oversubscribed_blind_seconds: float
    """The same at nodes whose sensor was lost: nobody could know."""
    oversubscribing_starts: int
    """Starts of ours that overdrew a node whose last sample told the truth: must be 0."""
    misplaced_starts: int
    """Starts on a node whose workers do not serve the queue: must be 0."""
    starts: int
    finished: int
    yields: int
    flaps: int
    """Loops that had to yield within 30 s of having resumed."""
    consolidations: int
    """How often a node was kept free for large work that small work was moved for."""
    moves: int
    """Loops that were moved for it."""
    moved_too_soon: int
    """Of those, within the cooldown of their last move: must be 0."""
    work_repeated: float
    """Seconds of work done twice: the item in progress of a loop that was moved, or yielded for want of memory."""
    wait_p50: dict[str, float]
    wait_p95: dict[str, float]
    """Seconds in the pause queue in all, by priority."""
    starved: int
    """Runs still waiting that equal work, no more urgent and an hour younger, went past."""
    took_seconds: float


def figures(world: World, ledger: Ledger, oracle: Oracle, *, seed: int, took: float) -> Figures:
    waits: dict[int, list[float]] = defaultdict(list)
    for name, seconds in ledger.waits.items():
        waits[ledger.priorities[name]].append(seconds)
    events = ledger.over_events
    return Figures(
        scenario=world.name,
        seed=seed,
        nodes=len(world.machines),
        gpus=sum(machine.gpus for machine in world.machines),
        runs=len(world.jobs),
        unrunnable=ledger.unrunnable,
        horizon_seconds=world.horizon,
        utilisation=_ratio(ledger.core_seconds, oracle.free_core_seconds),
        oracle_utilisation=_ratio(oracle.core_seconds, oracle.free_core_seconds),
        ratio=_ratio(ledger.core_seconds, oracle.core_seconds),
        gpu_utilisation=_ratio(ledger.gpu_seconds, oracle.free_gpu_seconds),
        oracle_gpu_utilisation=_ratio(oracle.gpu_seconds, oracle.free_gpu_seconds),
        gpu_ratio=_ratio(ledger.gpu_seconds, oracle.gpu_seconds),
        oversubscribed_seconds=round(ledger.over_seconds, 1),
        oversubscribed_events=events,
        oversubscribed_seconds_per_event=round(ledger.over_seconds / events, 2) if events else 0.0,
        oversubscribed_worst_seconds=round(ledger.over_worst, 1),
        oversubscribed_blind_seconds=round(ledger.blind_over_seconds, 1),
        oversubscribing_starts=ledger.bad_starts,
        misplaced_starts=ledger.misplaced,
        starts=ledger.starts,
        finished=ledger.finishes,
        yields=ledger.yields,
        flaps=ledger.flaps,
        consolidations=ledger.consolidations,
        moves=ledger.moves,
        moved_too_soon=ledger.moved_too_soon,
        work_repeated=round(ledger.repeated_seconds, 1),
        wait_p50={str(key): _percentile(waits[key], 50) for key in sorted(waits)},
        wait_p95={str(key): _percentile(waits[key], 95) for key in sorted(waits)},
        starved=len(ledger.starved),
        took_seconds=round(took, 1),
    )


def lines(found: Figures) -> list[str]:
    """The figures, one per line, named as in the JSON."""
    return [f"{name:34} {_text(value)}" for name, value in asdict(found).items()]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"priority {key}: {seconds:,.0f} s" for key, seconds in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:,.4f}" if value < 1.5 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _percentile(values: list[float], q: float) -> float:
    return round(float(np.percentile(values, q)), 1)
