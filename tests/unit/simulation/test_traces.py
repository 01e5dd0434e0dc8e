"""Worlds from CSV files, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import simulate_capacity
from benchmarks.simulation import traces
from benchmarks.simulation.world import CPU, Change, Machine

DATA = Path(__file__).parents[2] / "data/gpu-cluster"


def simulate(capsys, *arguments, code=0):
    assert simulate_capacity.main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def trace(**options):
    machines, pods = traces.read_machines(DATA / "nodes.csv"), traces.read_pods(DATA / "runs.csv")
    return traces.cluster(machines, pods, seed=1, days=30, **options)


def test_best_effort_and_burstable_pods_are_ours_and_the_others_strangers():
    world = trace()

    assert len(world.machines) == 60
    assert {job.priority for job in world.jobs} == {2, 4}
    assert 100 < len(world.jobs) < 400
    assert world.changes == sorted(world.changes, key=lambda change: change.at)


def test_strangers_never_hold_more_than_a_machine_has():
    world = trace()

    for change in world.changes:
        machine = world.machines[change.node]
        most = (
            machine.cpu_millicores
            if change.kind == CPU
            else machine.gpu_mib
            if change.kind >= 0
            else machine.memory_mib
        )
        assert 0 <= change.amount <= most


def test_the_command_prints_figures_that_hold_on_the_excerpt(capsys):
    arguments = ("--nodes", DATA / "nodes.csv", "--runs", DATA / "runs.csv", "--keep-nodes", 8, "--repeat", 5)
    printed = json.loads(simulate(capsys, *arguments, "--json"))

    assert printed["ratio"] >= 0.90
    assert (printed["starved"], printed["oversubscribing_starts"]) == (0, 0)
    assert "oracle_utilisation" in simulate(capsys, *arguments)


@pytest.mark.slow
def test_the_command_draws_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "plot.svg"

    simulate(capsys, "--scenario", "bursts", "--node-count", 3, "--run-count", 10, "--hours", 1, "--plot", target)

    assert "<svg" in target.read_text()


def test_without_matplotlib_a_plot_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    arguments = ("--node-count", 2, "--run-count", 2, "--hours", 1, "--plot", tmp_path / "plot.svg")
    assert "pip install -r requirements-dev" in simulate(capsys, *arguments, code=1)


def test_measured_foreign_load_is_read(tmp_path):
    path = tmp_path / "foreign.csv"
    path.write_text(
        "timestamp_s,node,gpu,cpu_fraction,gpu_memory_fraction,gpu_utilisation\n60,host,,0.5,,\n30,host,1,,0.25,0.9\n"
    )

    changes = traces.read_foreign(path, [Machine("host", 8_000, 64_000, 2, 24_000)])

    assert changes == [Change(30, 0, 1, 6_000), Change(60, 0, CPU, 4_000)]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1,other,,0.5,,", "names node 'other'"),
        ("1,host,7,,0.5,", "has 2 GPUs, got: 7"),
        ("x,host,,0.5,,", "expected a number in timestamp_s"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, sentence):
    path = tmp_path / "foreign.csv"
    path.write_text(f"timestamp_s,node,gpu,cpu_fraction,gpu_memory_fraction,gpu_utilisation\n{row}\n")

    with pytest.raises(traces.UnreadableTrace, match=sentence):
        traces.read_foreign(path, [Machine("host", 8_000, 64_000, 2, 24_000)])


def test_half_a_trace_is_refused(capsys):
    assert "both --nodes and --runs" in simulate(capsys, "--nodes", DATA / "nodes.csv", code=1)
