"""The table of nodes and GPUs that ``manage.py capacity`` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from rich.table import Table
from rich.text import Text

from pause_manager import conf
from pause_manager.capacity.snapshot import ContainerView, GpuView, NodeView
from pause_manager.nodes import report, worker_groups
from pause_manager.nodes.registry import KnownNode

COLUMNS = ("node", "state", "cores", "ours", "foreign", "load", "memory free", "GPU", "GPU free", "ours", "busy", "°C")
"""The rows of a node's containers have their own figures in its columns, and nothing where they have no limit."""
OF_A_NODE = COLUMNS.index("GPU")
RIGHT = {"cores", "ours", "foreign", "load", "memory free", "GPU free", "busy", "°C"}


def table(states: Sequence[KnownNode]) -> Table:
    """One row per node, and one more for each of its containers if it has several, and for each GPU after its first."""
    has_gpus = any(state.view.gpus or state.view.gpu_problem for state in states)
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in COLUMNS if has_gpus else COLUMNS[:OF_A_NODE]:
        shown.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name != "GPU")
    for state in states:
        left = [_node_cells(state), *map(_container_cells, _told_apart(state))]
        right = [_gpu_cells(state, gpu) for gpu in state.view.gpus or (None,)]
        for node, gpu in zip_longest(left, right):
            cells = [*(node or [""] * OF_A_NODE), *(gpu or [""] * (len(COLUMNS) - OF_A_NODE))]
            shown.add_row(*cells[: len(shown.columns)], style="" if state.is_online else "dim")
    return shown


def lines_of(states: Sequence[KnownNode]) -> list[dict[str, Any]]:
    """The same for machines: one object a node, with its live workers."""
    views = worker_groups.with_workers(state.view for state in states)
    return [
        {
            "node": state.view.name,
            "is_online": state.is_online,
            "is_consuming": state.row.is_consuming,
            "age_seconds": round(state.age_seconds, 3),
            "first_seen_at": state.row.first_seen_at.isoformat(),
            "pause_below": state.row.pause_below,
            "workers": [report.worker_group(group) for group in view.workers or ()],
            **state.sample.as_dict(),
        }
        for state, view in zip(states, views, strict=True)
    ]


def sights(states: Sequence[KnownNode]) -> list[str]:
    """A sentence for each set of queues whose workers on a node may not use all of its GPUs."""
    views = worker_groups.with_workers(state.view for state in states)
    return list(dict.fromkeys(sentence for view in views for sentence in _sights(view)))


def _sights(view: NodeView) -> Iterator[str]:
    for group in view.workers or ():
        if group.gpus is None:
            continue
        queues = sorted((group.queues or frozenset()) - {conf.settings().control_queue})
        of = f" of the queue{'' if len(queues) == 1 else 's'} {', '.join(queues)}" if queues else ""
        numbers = [str(gpu.index) for gpu in view.gpus if gpu.id in group.gpus]
        seen = f"GPU {', '.join(numbers)} and no other" if numbers else "no GPU"
        yield f"Workers{of} on {view.name} see {seen}."


def _node_cells(state: KnownNode) -> list[str | Text]:
    view, sample = state.view, state.sample
    foreign = f"{view.foreign_cores:.1f}" + ("*" if sample.foreign_corrected_by else "")
    return [
        view.name,
        _word(state),
        f"{view.cores:g}",
        f"{sample.own_cores:.1f}",
        foreign,
        f"{sample.load_1m:.1f}",
        f"{_gib(view.free_memory_mib)} of {_gib(view.memory_mib)} GiB",
    ]


def _told_apart(state: KnownNode) -> Sequence[ContainerView]:
    """The containers, where they have something that the node's row does not say."""
    containers = state.view.containers
    return containers if len(containers) > 1 or any(one.is_bounded for one in containers) else ()


def _container_cells(one: ContainerView) -> list[str | Text]:
    memory = "" if one.memory_mib is None else f"{_gib(one.free_memory_mib or 0)} of {_gib(one.memory_mib)} GiB"
    return [
        Text(f"  {one.label}", style="dim"),
        Text("container", style="dim"),
        "" if one.cores is None else f"{one.cores:g}",
        f"{one.own_cores:.1f}",
        "" if one.cores is None else f"{one.foreign_cores:.1f}",
        "",
        memory,
    ]


def _gpu_cells(state: KnownNode, gpu: GpuView | None) -> list[str | Text]:
    if gpu is None:
        return [Text(state.view.gpu_problem or state.view.gpu_note, style="yellow"), "", "", "", ""]
    shares = " (the machine's memory)" if gpu.is_unified else ""
    why = gpu.problem or gpu.note
    name = Text.assemble(f"{gpu.index} {gpu.name} {gpu.uuid}".rstrip(), shares, (f" {why}" if why else "", "yellow"))
    free = "unknown" if gpu.free_mib is None else f"{_gib(gpu.free_mib)} of {_gib(gpu.total_mib)} GiB"
    busy = "" if gpu.utilisation is None else f"{gpu.utilisation:.0%}"
    degrees = "" if gpu.temperature_c is None else str(gpu.temperature_c)
    return [name, free, _gib(gpu.own_mib) if gpu.own_mib else "", busy, degrees]


def _word(state: KnownNode) -> Text:
    if not state.is_online:
        return Text(f"offline {state.age_seconds:.0f} s", style="red")
    return Text("online", style="green") if state.row.is_consuming else Text("saturated", style="yellow")


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f}"
