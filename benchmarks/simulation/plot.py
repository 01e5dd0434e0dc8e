"""A picture of a simulation: cores of other processes and of ours, and the pause queue, over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.simulation.figures import Figures
from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.world import CPU, World

Series = npt.NDArray[np.float64]


class PlotUnavailable(RuntimeError):
    """matplotlib is not installed; the sentence says how to get it."""


def draw(path: Path, world: World, ledger: Ledger, found: Figures) -> None:
    """Write a plot to ``path``; its ending (.svg, .png) gives the format."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise PlotUnavailable(
            "Cannot draw a plot: matplotlib is not installed. Run: pip install -r requirements-dev.txt"
        ) from None
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "slackwater"
    from matplotlib.figure import Figure

    grid = np.linspace(0.0, world.horizon, 500)
    cores = sum(machine.cpu_millicores for machine in world.machines) / 1000
    foreign = _sampled(grid, _foreign_cores(world))
    ours = _sampled(grid, ledger.own)
    queue = _sampled(grid, ledger.queue)
    hours = grid / 3600
    unit = "hours"
    if world.horizon > 4 * 86400:
        hours, unit = hours / 24, "days"
    figure = Figure(figsize=(9, 5), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.stackplot(
        hours, foreign / cores, ours / cores, labels=("other processes", "our runs"), colors=("#b9c0c9", "#2f7ea8")
    )
    top.axhline(1.0, color="#444444", linewidth=0.8)
    top.set_ylabel("share of all cores")
    top.set_ylim(0, max(1.05, float(np.max((foreign + ours) / cores)) * 1.05))
    top.legend(loc="upper left", fontsize=8)
    top.set_title(
        f"{world.name}: {found.nodes:,} nodes, {found.runs:,} runs; {found.ratio:.1%} of a perfect packing, "
        f"{found.yields:,} yields, {found.flaps} flaps",
        fontsize=10,
    )
    below.plot(hours, queue, color="#c2562d", linewidth=1)
    below.set_ylabel("parked")
    below.set_xlabel(unit)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _sampled(grid: Series, deltas: Sequence[tuple[float, float]]) -> Series:
    if not deltas:
        return np.zeros_like(grid)
    ordered = np.array(sorted(deltas), dtype=np.float64)
    totals = np.concatenate(([0.0], np.cumsum(ordered[:, 1])))
    sampled: Series = totals[np.searchsorted(ordered[:, 0], grid, side="right")]
    return sampled


def _foreign_cores(world: World) -> list[tuple[float, float]]:
    latest: dict[int, int] = {}
    deltas = []
    for change in world.changes:
        if change.kind == CPU:
            deltas.append((change.at, (change.amount - latest.get(change.node, 0)) / 1000))
            latest[change.node] = change.amount
    return deltas
