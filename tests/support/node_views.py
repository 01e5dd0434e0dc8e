"""Nodes and loads for the tests of the policy, plain and at random."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation, GpuView, NodeView

NOW = 1000.0


def gpu(index=0, *, free=24_000, total=24_000, **figures):
    return GpuView(index, total, free, **{"uuid": f"GPU-{index}", **figures})


def node(name="a", *, cores=8.0, foreign=0.0, free=60_000, gpus=(), allocations=(), **figures):
    return NodeView(
        name=name,
        sampled_at=figures.pop("sampled_at", NOW),
        cores=cores,
        foreign_cores=foreign,
        memory_mib=64_000,
        free_memory_mib=free,
        gpus=tuple(gpus),
        allocations=tuple(allocations),
        **figures,
    )


def allocation(ref, *, cpu=1.0, started_at=0.0, priority=3, gpus=(), is_sent=False, can_yield=True, **needs):
    ids = tuple(f"GPU-{index}" for index in gpus)
    return Allocation(ref, Needs(cpu=cpu, **needs), started_at, priority, ids, is_sent, can_yield)


def with_load(view, ref, needs, gpus, now):
    """The node once the dispatch has been sent, before any new sample."""
    return replace(view, allocations=(*view.allocations, Allocation(ref, needs, now, gpus=gpus, is_sent=True)))


needs = st.builds(
    Needs,
    cpu=st.sampled_from((0.5, 1, 2, 6)),
    memory_mib=st.sampled_from((0, 1_000, 20_000)),
    gpu_memory_mib=st.sampled_from((0, 0, 4_000, 12_000, 24_000)),
    gpus=st.sampled_from((0, 1, 2)),
)


@st.composite
def nodes(draw, name="a"):
    gpus = [
        gpu(index, free=draw(st.integers(0, 24_000)), problem=draw(st.sampled_from(("", "", "", "lost"))))
        for index in range(draw(st.integers(0, 3)))
    ]
    return node(
        name,
        cores=draw(st.sampled_from((1.0, 2.0, 8.0, 16.0))),
        foreign=draw(st.floats(0, 16, allow_nan=False)),
        free=draw(st.integers(0, 64_000)),
        gpus=gpus,
    )


@st.composite
def fleets(draw, most=5):
    return [draw(nodes(name=f"n{number}")) for number in range(draw(st.integers(1, most)))]
