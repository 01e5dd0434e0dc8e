"""``python -m benchmarks.simulate_capacity``: try the capacity policy on a simulated fleet, without a database."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.simulation import scenarios, traces
from benchmarks.simulation.engine import Simulation
from benchmarks.simulation.figures import Figures, figures, lines
from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.oracle import pack
from benchmarks.simulation.plot import PlotUnavailable, draw
from benchmarks.simulation.world import World

_DESCRIPTION = (
    "Simulate a fleet that shares its machines with other processes, under the policy this fleet runs by, and compare "
    "it with a packing by perfect knowledge. Give --scenario, or --nodes and --runs of a cluster trace."
)


class Refused(Exception):
    """Arguments or files that no simulation can be made of."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate what ``arguments`` name and print the figures; returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    try:
        world = _world(options)
        began = time.monotonic()
        ledger = _simulate(world)
        found = figures(world, ledger, pack(world), seed=options["seed"], took=time.monotonic() - began)
        _print(world, found, as_json=options["json"])
        if options["plot"]:
            draw(options["plot"], world, ledger, found)
    except (OSError, Refused, traces.UnreadableTrace, PlotUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m benchmarks.simulate_capacity", description=_DESCRIPTION)
    parser.add_argument("--scenario", choices=scenarios.NAMES, help="a built-in world (default: steps)")
    parser.add_argument("--nodes", type=Path, metavar="CSV", help="machines: sn, cpu_milli, memory_mib, gpu")
    parser.add_argument("--runs", type=Path, metavar="CSV", help="pods; BE and Burstable are ours")
    parser.add_argument("--foreign", type=Path, metavar="CSV", help="measured foreign load, in place of the pods'")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=float, default=30.0, help="how many of the last days of a trace (default: 30)")
    parser.add_argument("--repeat", type=int, default=1, help="how many times to run each of our pods")
    parser.add_argument("--keep-nodes", type=int, metavar="N", help="keep only N machines, evenly chosen")
    parser.add_argument("--node-count", type=int, default=1000, help="nodes of a built-in world")
    parser.add_argument("--run-count", type=int, default=10_000, help="runs of a built-in world")
    parser.add_argument("--hours", type=float, help="length of a built-in world")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a plot (.svg or .png)")
    return parser


def _print(world: World, found: Figures, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    for line in [*world.notes, *lines(found)]:
        print(line)


def _world(options: dict[str, Any]) -> World:
    if bool(options["nodes"]) != bool(options["runs"]):
        raise Refused("Cannot simulate a trace: expected both --nodes and --runs, got one of them")
    if not options["nodes"]:
        if options["foreign"]:
            raise Refused("Cannot use --foreign: expected --nodes and --runs beside it")
        return scenarios.scenario(
            options["scenario"] or "steps",
            seed=options["seed"],
            nodes=options["node_count"],
            runs=options["run_count"],
            hours=options["hours"],
        )
    if options["scenario"]:
        raise Refused("Cannot simulate both: expected either --scenario or --nodes and --runs")
    machines = traces.read_machines(options["nodes"])
    if options["keep_nodes"]:
        machines = [machines[n * len(machines) // options["keep_nodes"]] for n in range(options["keep_nodes"])]
    world = traces.cluster(
        machines,
        traces.read_pods(options["runs"]),
        seed=options["seed"],
        days=options["days"],
        repeat=options["repeat"],
    )
    if options["foreign"]:
        changes = traces.read_foreign(options["foreign"], machines)
        return World("trace with measured foreign load", machines, world.jobs, changes, world.horizon, world.notes)
    return world


def _simulate(world: World) -> Ledger:
    simulation = Simulation(world)
    if not sys.stderr.isatty():
        return simulation.run()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"simulating {world.name}", total=world.horizon)
        return simulation.run(lambda now: progress.update(task, completed=now))


if __name__ == "__main__":
    sys.exit(main())
