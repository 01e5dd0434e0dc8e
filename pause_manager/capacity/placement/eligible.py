"""Eligible nodes: those that could run a piece of work if they were empty."""

from __future__ import annotations

from pause_manager.capacity.headroom import most_seen, to_millicores
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import ContainerView, NodeView


def can_ever_run(node: NodeView, needs: Needs, queue: str = "") -> bool:
    """Whether ``needs`` would fit on the empty node, in a container whose workers serve ``queue`` and see enough GPUs.

    Only such nodes count: that is P-37.
    """
    if to_millicores(needs.cpu) > to_millicores(node.cores) or needs.memory_mib > node.memory_mib:
        return False
    large = large_gpus(node, needs) if needs.gpus else ()
    if len(large) < needs.gpus:
        return False
    if node.workers is None and not node.containers:
        return True
    large_enough = {one.key: _is_large_enough(one, needs) for one in node.containers}
    # Those whose container is not known are in one of them.
    is_any = not large_enough or any(large_enough.values())
    able = [group for group in node.groups if group.serves(queue) and large_enough.get(group.container, is_any)]
    return bool(able) and most_seen(able, large, queue) >= needs.gpus


def large_gpus(node: NodeView, needs: Needs) -> list[str]:
    """The ids of the GPUs that ``needs`` would fit on if they were empty, no matter who sees them."""
    beside = needs.gpu_memory_mib + needs.memory_mib
    return [
        gpu.id
        for gpu in node.gpus
        if gpu.total_mib > 0 and gpu.total_mib >= (beside if gpu.is_unified else needs.gpu_memory_mib)
    ]


def _is_large_enough(one: ContainerView, needs: Needs) -> bool:
    has_cores = one.cores is None or needs.cpu <= one.cores
    return has_cores and (one.memory_mib is None or needs.memory_mib <= one.memory_mib)
