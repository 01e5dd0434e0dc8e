"""What is left of a node, by its sample and by what our work declared there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pause_manager.capacity.headroom import Bound, GpuHeadroom, Headroom, Share, to_millicores
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import Allocation, ContainerView, GpuView, NodeView


def foreign_millicores(node: NodeView, policy: Policy) -> int:
    """Thousandths of a core that other processes use of ``node`` at this moment, where that is more than noise."""
    return beyond_noise(to_millicores(node.foreign_cores), to_millicores(node.cores), policy)


def steady_foreign_millicores(node: NodeView, policy: Policy) -> int:
    """The same without its spikes, where that is known: what keeps new work away."""
    return beyond_noise(to_millicores(node.counted_foreign_cores), to_millicores(node.cores), policy)


def beyond_noise(used: int, total: int, policy: Policy) -> int:
    """``used`` thousandths of a core of ``total``: up to the slack it is noise and counts as none, above it in full."""
    slack = max(to_millicores(policy.cpu_slack_cores), round(policy.cpu_slack_share * total))
    return used if used > slack else 0


def headroom(node: NodeView, now: float, policy: Policy | None = None) -> Headroom:
    """Return what is left of ``node`` for new work, after other processes and everything we declared there.

    CPU is compressible: cores minus steady foreign use beyond noise minus declared cores; what our loops burn is not
    counted.
    Memory and GPU memory are not: what the sensor says is free, minus declared needs that it does not show yet.
    """
    policy = policy or _DEFAULT
    settle = policy.sensor_lag_seconds
    allocations = node.allocations
    cpu = (
        to_millicores(node.cores)
        - steady_foreign_millicores(node, policy)
        - sum(to_millicores(allocation.needs.cpu) for allocation in allocations)
    )
    memory = node.free_memory_mib
    if allocations:
        declared = [(allocation, amount) for allocation in allocations if (amount := node.memory_mib_of(allocation))]
        used = node.memory_mib - node.free_memory_mib
        memory -= _unseen(declared, node.own_memory_mib, node.idle_memory_mib, used, node, now, settle)
    readable = [] if node.gpu_problem else [gpu for gpu in node.gpus if not gpu_is_unknown(gpu)]
    here: dict[str, list[Allocation]] = {}
    for allocation in allocations:
        for gpu_id in allocation.gpus:
            here.setdefault(gpu_id, []).append(allocation)
    gpus = [_gpu_headroom(gpu, here.get(gpu.id, ()), node, memory, now, settle) for gpu in readable]
    bounds = {one.key: _bound(one, node, now, policy) for one in node.containers} if is_bounded(node) else {}
    groups = node.groups
    if not bounds and all(group.gpus is None for group in groups):
        groups = ()
    return Headroom(node.name, cpu, to_millicores(node.cores), memory, node.memory_mib, gpus, bounds, groups)


def is_bounded(node: NodeView) -> bool:
    """Return whether any of the node's containers may not use all of it."""
    return any(one.is_bounded for one in node.containers)


def within(node: NodeView, container: str) -> NodeView:
    """``node`` as the workers of one of its containers may use it, with its cards as they are numbered there.

    All of it if it does not know the container.
    """
    mine = next((one for one in node.containers if one.key == container), None)
    if mine is None:
        return node
    numbers = dict(zip(mine.gpus, mine.gpu_numbers, strict=False))
    gpus = [replace(gpu, index=numbers[gpu.id]) for gpu in node.gpus if gpu.id in numbers]
    note = node.gpu_note if gpus or not node.gpus else "no GPUs: its container sees none of the machine's"
    gpus.sort(key=lambda gpu: gpu.index)
    return replace(node, containers=(mine,), gpus=tuple(gpus), gpu_note=note)


def _bound(one: ContainerView, node: NodeView, now: float, policy: Policy) -> Bound:
    """Return what is left of one container for its workers, whatever the machine has beside."""
    allocations = [allocation for allocation in node.allocations if allocation.container == one.key]
    cpu, memory = to_millicores(node.cores), node.memory_mib
    if one.cores is not None:
        foreign = beyond_noise(to_millicores(one.foreign_cores), to_millicores(one.cores), policy)
        cpu = (
            to_millicores(one.cores) - foreign - sum(to_millicores(allocation.needs.cpu) for allocation in allocations)
        )
    if one.memory_mib is not None and one.free_memory_mib is not None:
        declared = [(allocation, amount) for allocation in allocations if (amount := node.memory_mib_of(allocation))]
        used = one.memory_mib - one.free_memory_mib
        # In which container the idle processes are nobody measures: on the safe side they are all in this one.
        idle = min(one.own_memory_mib, node.idle_memory_mib)
        memory = one.free_memory_mib - _unseen(
            declared, one.own_memory_mib, idle, used, node, now, policy.sensor_lag_seconds
        )
    return Bound(cpu, memory)


def share(node: NodeView, needs: Needs, now: float, policy: Policy | None = None, queue: str = "") -> Share | None:
    """Free of total for the scarcest resource that ``needs`` uses on ``node``; None if its GPUs cannot be read."""
    return headroom(node, now, policy).share(needs, queue)


def fits(node: NodeView, needs: Needs, now: float, policy: Policy | None = None) -> bool:
    """Return whether one more piece of work has room on ``node`` now, whatever the threshold says."""
    return headroom(node, now, policy).fits(needs)


def container_fits(node: NodeView, needs: Needs, now: float, policy: Policy | None = None) -> bool:
    """Return whether a container of ``node`` has room for ``needs``, whatever the machine has beside."""
    return headroom(node, now, policy).container_fits(to_millicores(needs.cpu), needs.memory_mib)


def is_readable(node: NodeView, now: float, policy: Policy) -> bool:
    """Online, with a sample that is not too old."""
    return node.is_online and now - node.sampled_at <= policy.offline_after_seconds


def gpu_is_unknown(gpu: GpuView) -> bool:
    return bool(gpu.problem) or gpu.free_mib is None or gpu.total_mib <= 0


def pause_threshold(node: NodeView, policy: Policy) -> float:
    """The free share below which ``node`` takes no new work."""
    return policy.pause_threshold(node.pause_below, node.threshold_moved_by)


def resume_threshold(node: NodeView, policy: Policy) -> float:
    """The free share that ``node`` must have for parked work."""
    return policy.resume_threshold(node.pause_below, node.threshold_moved_by)


def _gpu_headroom(
    gpu: GpuView, here: Sequence[Allocation], node: NodeView, memory: int, now: float, settle: float
) -> GpuHeadroom:
    """``here`` are the loads that were given it."""
    free = gpu.free_mib or 0
    if any(not allocation.needs.gpu_memory_mib for allocation in here):
        return GpuHeadroom(gpu.id, gpu.index, 0, gpu.total_mib, len(here), gpu.is_unified)
    if gpu.is_unified:
        return GpuHeadroom(gpu.id, gpu.index, memory, gpu.total_mib, len(here), is_unified=True)
    if not here:
        return GpuHeadroom(gpu.id, gpu.index, free, gpu.total_mib)
    declared = [(allocation, allocation.needs.gpu_memory_mib) for allocation in here]
    unseen = _unseen(declared, gpu.own_mib, gpu.idle_mib, gpu.total_mib - free, node, now, settle)
    return GpuHeadroom(gpu.id, gpu.index, free - unseen, gpu.total_mib, len(here))


def _unseen(
    declared: Sequence[tuple[Allocation, int]],
    own: int,
    idle: int,
    used: int,
    node: NodeView,
    now: float,
    settle: float,
) -> int:
    """Return how much of the declared memory the sensor does not show yet: the phantom load.

    What was sent or started after the sample, or after our idle processes were last measured, counts in full; the rest
    counts for what was declared minus what our processes show beyond what they occupy when ``idle``. Where the sensor
    cannot tell whose memory it is (nothing of ours shows although all has settled), what is used at all is taken for
    ours, or the same memory would be counted twice forever.
    """
    since = node.sampled_at if node.idle_at is None else min(node.sampled_at, node.idle_at)
    new = old = 0
    has_settled = True
    for allocation, amount in declared:
        if allocation.is_sent or allocation.started_at >= since:
            new += amount
        else:
            old += amount
            has_settled = has_settled and now - allocation.started_at >= settle
    shown = used if has_settled and not own else max(0, own - idle)
    return max(old - shown, 0) + new


_DEFAULT = Policy()
