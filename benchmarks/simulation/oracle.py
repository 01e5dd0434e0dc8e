"""The same work packed with perfect knowledge: what the policy's utilisation is held against."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass

from benchmarks.simulation.ledger import gpu_share
from benchmarks.simulation.world import CPU, MEMORY, SENSOR, Job, World

_Amount = tuple[int, int, int, int, str]
"""Thousandths of a core, MiB of memory, MiB of GPU memory in all, number of GPUs, and the queue."""


@dataclass
class Oracle:
    """Useful work up to the horizon of an unreal scheduler, and what other processes left free in that time."""

    core_seconds: float = 0.0
    gpu_seconds: float = 0.0
    free_core_seconds: float = 0.0
    free_gpu_seconds: float = 0.0


def pack(world: World) -> Oracle:
    """Pack the work of ``world`` as no real scheduler can.

    What other processes leave free is one pool over all nodes, and loops move between nodes at no cost; only does no
    kind of work get more loops at a time than would fit on the nodes if it had all of them to itself, nor a queue more
    than what is left of the nodes that serve it. There is no threshold,
    no reserve, no dwell, no poll and no sensor: work starts in the very moment it fits, in order of priority, then
    arrival; smaller work goes past larger that does not fit. When other processes come, the last started give way at
    once and lose nothing. It does not look ahead, so it is a very generous bound and not a proven optimum.
    """
    return _Packing(world).run()


class _Packing:
    def __init__(self, world: World) -> None:
        self.world = world
        self.size = max((machine.gpu_mib for machine in world.machines), default=0)
        self.pools = {queue: self._total(queue) for queue in {"", *(job.queue for job in world.jobs)}}
        """What is free on the nodes that serve each queue; under "" on all of them."""
        self.free = self.pools[""]
        self.caps = [(m.cpu_millicores, m.memory_mib, m.gpu_mib) for m in world.machines]
        self.used: dict[tuple[int, int], int] = {}
        self.left = [job.work for job in world.jobs]
        self.wants = [self._amount(job) for job in world.jobs]
        self.since: dict[int, float] = {}
        self.started: list[tuple[float, int]] = []
        self.waiting: dict[tuple[int, _Amount], deque[int]] = {}
        self.ends: list[tuple[float, int]] = []
        self.kinds = sorted(set(self.wants))
        self.per_loop = {want: job.needs for want, job in zip(self.wants, world.jobs, strict=True)}
        self.slots = [[self._slots(kind, node) for kind in self.kinds] for node in range(len(self.caps))]
        self.most = {kind: sum(slots[n] for slots in self.slots) for n, kind in enumerate(self.kinds)}
        self.running: Counter[_Amount] = Counter()
        self.stale: set[int] = set()
        self.oracle = Oracle()
        self.clock = 0.0

    def _amount(self, job: Job) -> _Amount:
        needs = job.needs
        gpu = needs.gpus * (needs.gpu_memory_mib or self.size)
        return (round(needs.cpu * 1000), needs.memory_mib, gpu, needs.gpus, job.queue)

    def _total(self, queue: str) -> list[int]:
        serving = [machine for machine in self.world.machines if not queue or machine.serves(queue)]
        return [
            sum(machine.cpu_millicores for machine in serving),
            sum(machine.memory_mib for machine in serving),
            sum(machine.gpus * machine.gpu_mib for machine in serving),
        ]

    def run(self) -> Oracle:
        jobs, changes = self.world.jobs, self.world.changes
        arrivals = sorted(range(len(jobs)), key=lambda number: jobs[number].arrives)
        next_job = next_change = 0
        while True:
            times = [
                jobs[arrivals[next_job]].arrives if next_job < len(arrivals) else float("inf"),
                changes[next_change].at if next_change < len(changes) else float("inf"),
                self.ends[0][0] if self.ends else float("inf"),
            ]
            now = min(times)
            if now > self.world.horizon:
                break
            self._pass(now)
            while next_change < len(changes) and changes[next_change].at <= now:
                self._change(*changes[next_change][1:])
                next_change += 1
            while self.ends and self.ends[0][0] <= now:
                self._end(heapq.heappop(self.ends), now)
            while next_job < len(arrivals) and jobs[arrivals[next_job]].arrives <= now:
                self._wait(arrivals[next_job])
                next_job += 1
            self._give_way(now)
            self._admit(now)
        self._pass(self.world.horizon)
        for number in list(self.since):
            self._stop(number, self.world.horizon)
        return self.oracle

    def _pass(self, now: float) -> None:
        """What other processes leave is what is free and what our loops hold."""
        seconds = now - self.clock
        self.oracle.free_core_seconds += seconds * max(0, self._ours(0)) / 1000
        if self.size:
            self.oracle.free_gpu_seconds += seconds * max(0, self._ours(2)) / self.size
        self.clock = now

    def _ours(self, resource: int) -> int:
        return self.free[resource] + self.held[resource]

    held = (0, 0, 0)

    def _change(self, node: int, kind: int, amount: int) -> None:
        if kind == SENSOR:
            return
        resource = 0 if kind == CPU else 1 if kind == MEMORY else 2
        amount = min(amount, self.caps[node][resource])
        more = amount - self.used.get((node, kind), 0)
        for queue, pool in self.pools.items():
            if not queue or self.world.machines[node].serves(queue):
                pool[resource] -= more
        self.used[node, kind] = amount
        self.stale.add(node)

    def _slots(self, kind: _Amount, node: int) -> int:
        """How many loops of this kind fit on the node beside other processes, if nothing else of ours is there."""
        machine, needs = self.world.machines[node], self.per_loop[kind]
        if not machine.serves(kind[4]):
            return 0
        fits = [len(self.wants)]
        if kind[0]:
            fits.append((machine.cpu_millicores - self.used.get((node, CPU), 0)) // kind[0])
        if kind[1]:
            fits.append((machine.memory_mib - self.used.get((node, MEMORY), 0)) // kind[1])
        if needs.gpus:
            each = needs.gpu_memory_mib or machine.gpu_mib or 1
            free = [machine.gpu_mib - self.used.get((node, index), 0) for index in range(machine.gpus)]
            slots = [mib // each for mib in free]
            fits.append(sum(slots) // needs.gpus if sum(slot > 0 for slot in slots) >= needs.gpus else 0)
        return max(0, min(fits))

    def _count_slots(self) -> None:
        for node in self.stale:
            for n, kind in enumerate(self.kinds):
                slots = self._slots(kind, node)
                self.most[kind] += slots - self.slots[node][n]
                self.slots[node][n] = slots
        self.stale.clear()

    def _wait(self, number: int, *, first: bool = False) -> None:
        key = (self.world.jobs[number].priority, self.wants[number])
        line = self.waiting.setdefault(key, deque())
        if first:
            line.appendleft(number)
        else:
            line.append(number)

    def _take(self, number: int, sign: int) -> None:
        wants = self.wants[number]
        for queue in {"", wants[4]}:
            for resource, amount in enumerate(wants[:3]):
                self.pools[queue][resource] -= sign * amount
        held = self.held
        self.running[wants] += sign
        self.held = (held[0] + sign * wants[0], held[1] + sign * wants[1], held[2] + sign * wants[2])

    def _fits(self, wants: _Amount) -> bool:
        return all(
            amount <= max(free, 0)
            for pool in (self.free, self.pools[wants[4]])
            for amount, free in zip(wants[:3], pool, strict=True)
        )

    def _admit(self, now: float) -> None:
        lines = sorted(((key[0], self.world.jobs[line[0]].arrives, key) for key, line in self.waiting.items() if line))
        for _, _, key in lines:
            line = self.waiting[key]
            while line and self.running[key[1]] < self.most[key[1]] and self._fits(key[1]):
                number = line.popleft()
                self._take(number, 1)
                self.since[number] = now
                self.started.append((now, number))
                heapq.heappush(self.ends, (now + self.left[number], number))

    def _give_way(self, now: float) -> None:
        """The last started go until what is left fits, those first whose kind has lost its nodes."""
        self._count_slots()
        for kind in self.kinds:
            if self.running[kind] > self.most[kind]:
                ours = sorted((number for number in self.since if self.wants[number] == kind), key=self._began)
                for number in ours[self.most[kind] :]:
                    self._stop(number, now)
                    self._wait(number, first=True)
        kept: list[tuple[float, int]] = []
        while self.started and any(min(pool) < 0 for pool in self.pools.values()):
            began, number = self.started.pop()
            if self.since.get(number) != began:
                continue
            if min(*self.free, *self.pools[self.wants[number][4]]) >= 0:
                kept.append((began, number))
                continue
            self._stop(number, now)
            self._wait(number, first=True)
        self.started += reversed(kept)

    def _began(self, number: int) -> float:
        return self.since[number]

    def _end(self, end: tuple[float, int], now: float) -> None:
        at, number = end
        if number in self.since and abs(self.since[number] + self.left[number] - at) < 1e-6:
            self._stop(number, now)

    def _stop(self, number: int, now: float) -> None:
        job = self.world.jobs[number]
        seconds = now - self.since.pop(number)
        self.left[number] -= seconds
        self._take(number, -1)
        self.oracle.core_seconds += seconds * job.needs.cpu
        self.oracle.gpu_seconds += seconds * gpu_share(job.needs, {self.size} if self.size else set())
