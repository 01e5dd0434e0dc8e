"""Runs a world second by second where something happens, and asks the policy what a fleet would ask it.

Each node is sampled every second, parked work is polled every ten, a loop that must yield does so at its next item.
Nothing here decides who starts, who yields or what continues: that is ``pause_manager.capacity``.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.nodes import SimNode, Turn, allocation_of
from benchmarks.simulation.world import MEMORY, SENSOR, World
from pause_manager.capacity import (
    Line,
    Placement,
    Policy,
    RampState,
    Sites,
    Waiting,
    admission_ledger,
    can_ever_run,
    consolidate,
    goes_behind,
    judge,
    plan_resume,
    resuming_ledger,
)
from pause_manager.capacity.needs import Needs

_CHANGE, _END, _GIVE_BACK, _JUDGE, _ARRIVE, _POLL = range(6)


@dataclass(frozen=True)
class Tempo:
    """How often a fleet looks and acts, in seconds."""

    sample_seconds: int = 1
    poll_seconds: int = 10
    item_seconds: float = 3.0
    """A loop yields between items of this length."""


class Simulation:
    """One pass through a world. ``run`` gives the ledger of what happened."""

    def __init__(self, world: World, policy: Policy | None = None, tempo: Tempo | None = None) -> None:
        self.world = world
        self.policy = policy or Policy()
        self.tempo = tempo or Tempo()
        self.nodes = [SimNode(number, machine) for number, machine in enumerate(world.machines)]
        self.by_name = {node.machine.name: node for node in self.nodes}
        self.ledger = Ledger(world, self.policy)
        self._events: list[tuple[float, int, int, int, str]] = []
        self._where: dict[str, SimNode] = {}
        self._number = {job.name: number for number, job in enumerate(world.jobs)}
        self._left = [job.work for job in world.jobs]
        self._has_run = [False] * len(world.jobs)
        self._version = 0
        self._waiting: dict[str, Waiting] = {}
        self._line = Line(self.policy)
        """The same, as the policy takes it."""
        self._kinds: dict[str, Counter[tuple[Needs, int]]] = {job.queue: Counter() for job in world.jobs}
        """What waits for the workers of each queue."""
        self._rivals = _rivals(world)
        self._needs = sorted({job.needs for job in world.jobs}, key=str)
        self._ramp = RampState()
        self._sites = Sites()
        self._is_dirty = True
        self._planned_at = 0.0
        self._ripe_at = float("inf")
        """When the next entry that has found no room will have waited long enough to have room made for it."""
        self._poll_is_set = False
        self._due: set[tuple[float, int]] = set()

    def run(self, tick: Callable[[float], None] | None = None) -> Ledger:
        """Simulate up to the horizon; ``tick`` hears the simulated time now and then."""
        self._prepare()
        handlers = {
            _CHANGE: self._on_change,
            _END: self._on_end,
            _GIVE_BACK: self._on_give_back,
            _JUDGE: self._on_judge,
            _ARRIVE: self._on_arrival,
            _POLL: self._on_poll,
        }
        count = 0
        while self._events and self._events[0][0] <= self.world.horizon:
            now, kind, number, version, ref = heapq.heappop(self._events)
            handlers[kind](now, number, version, ref)
            count += 1
            if tick and count % 2000 == 0:
                tick(now)
        self.ledger.close(self.nodes, self._waiting.values(), self.world.horizon)
        return self.ledger

    def _prepare(self) -> None:
        views = [node.view for node in self.nodes]
        self.states = {node.machine.name: node.state for node in self.nodes}
        self.fresh = admission_ledger(views, self.policy, 0.0)
        self.resuming = resuming_ledger(views, self.policy, 0.0)
        kinds = {(job.needs, job.queue) for job in self.world.jobs}
        runnable = {(needs, queue) for needs, queue in kinds if any(can_ever_run(view, needs, queue) for view in views)}
        for number, change in enumerate(self.world.changes):
            self._events.append((change.at, _CHANGE, number, 0, ""))
        for number, job in enumerate(self.world.jobs):
            if (job.needs, job.queue) in runnable:
                self._events.append((job.arrives, _ARRIVE, number, 0, job.name))
            else:
                self.ledger.unrunnable += 1
        heapq.heapify(self._events)

    def _push(self, at: float, kind: int, number: int, version: int = 0, ref: str = "") -> None:
        heapq.heappush(self._events, (at, kind, number, version, ref))

    def _on_change(self, now: float, number: int, version: int, ref: str) -> None:
        change = self.world.changes[number]
        node = self.nodes[change.node]
        if change.kind == SENSOR:
            self.ledger.stop_watching(node, now)
        node.change(change)
        self.ledger.watch(node, now)
        self._judge_at(node, math.floor(now) + self.tempo.sample_seconds)
        if node.sensor == 2:
            self._judge_at(node, math.floor(now + self.policy.offline_after_seconds) + self.tempo.sample_seconds)

    def _on_arrival(self, now: float, number: int, version: int, ref: str) -> None:
        job = self.world.jobs[number]
        ahead = (kind for queue in self._rivals[job.queue] for kind in self._kinds[queue])
        if not goes_behind(ahead, job.needs, job.priority):
            placement = self.fresh.place(job.needs, self._ramp.reserved_nodes, queue=job.queue)
            if placement is not None:
                self.ledger.waited(job, now, now)
                self._start(number, placement, now, is_resumed=False)
                return
        self._park(number, now)

    def _park(self, number: int, now: float) -> None:
        job = self.world.jobs[number]
        entry = self._waiting[job.name] = Waiting(job.name, job.needs, now, job.priority, queue=job.queue)
        self._line.add(entry)
        self._kinds[job.queue][job.needs, job.priority] += 1
        self._is_dirty = True
        self.ledger.parked(now)
        if not self._poll_is_set:
            self._set_poll(now)

    def _set_poll(self, now: float) -> None:
        every = self.tempo.poll_seconds
        self._push((math.floor(now / every) + 1) * every, _POLL, 0)
        self._poll_is_set = True

    def _on_poll(self, now: float, number: int, version: int, ref: str) -> None:
        self._poll_is_set = False
        if not self._waiting:
            self._ramp = RampState(1, now, moved=self._ramp.moved)
            return
        self._set_poll(now)
        has_long_rested = now - self._planned_at >= self.policy.reserve_after_seconds / 3
        if not self._is_dirty and not has_long_rested and now < self._ripe_at:
            return
        self._is_dirty, self._planned_at = False, now
        plan, self._ramp = plan_resume(self._line, (), self.policy, self._ramp, now, self.states, ledger=self.resuming)
        for entry, placement in plan:
            del self._waiting[entry.ref]
            self._line.remove(entry)
            kinds, key = self._kinds[entry.queue], (entry.needs, entry.priority)
            kinds[key] -= 1
            if not kinds[key]:
                del kinds[key]
            self.ledger.waited(self.world.jobs[self._number[entry.ref]], entry.paused_at, now)
            self._start(self._number[entry.ref], placement, now, is_resumed=True)
        if plan:
            self._is_dirty = True
        self._consolidate(now)

    def _consolidate(self, now: float) -> None:
        found, self._ramp = consolidate(self._ramp, self.resuming, self.policy, now, self.states, self._sites)
        for one in found:
            self.ledger.consolidations += 1
            for move in one.moves:
                turn = self._where[move.allocation.ref].turns[move.allocation.ref]
                turn.is_moving = True
                self.ledger.moved(turn, now)
                self._give_back_at_its_item(turn, now)
        after = self.policy.consolidate_after_seconds
        ripe = [at for entry in self._ramp.short if (at := entry.paused_at + after) > now]
        self._ripe_at = min(ripe, default=float("inf"))

    def _give_back_at_its_item(self, turn: Turn, now: float) -> None:
        items = math.ceil((now - turn.since) / self.tempo.item_seconds)
        at = max(now, turn.since + items * self.tempo.item_seconds)
        self._push(at, _GIVE_BACK, turn.job, turn.version, turn.allocation.ref)

    def _start(self, number: int, placement: Placement, now: float, *, is_resumed: bool) -> None:
        job = self.world.jobs[number]
        node = self.by_name[placement.node]
        self._version += 1
        allocation = allocation_of(job, now, placement.gpus, self.tempo.item_seconds)
        turn = Turn(number, allocation, now, is_resumed=is_resumed and self._has_run[number], version=self._version)
        self._has_run[number] = True
        node.start(turn)
        self._where[job.name] = node
        self._push(now + self._left[number], _END, number, self._version, job.name)
        self.ledger.started(node, job, now)
        self._refresh(node, now)
        self._judge_at(node, math.floor(now) + self.tempo.sample_seconds)

    def _on_end(self, now: float, number: int, version: int, ref: str) -> None:
        node = self._where.get(ref)
        if node is None or ref not in node.turns or node.turns[ref].version != version:
            return
        turn = self._leave(node, ref, now)
        self._left[number] = 0.0
        self.ledger.finished(self.world.jobs[number], now)
        self.ledger.worked(self.world.jobs[number], turn.since, now)

    def _on_give_back(self, now: float, number: int, version: int, ref: str) -> None:
        node = self._where.get(ref)
        if node is None or ref not in node.turns or node.turns[ref].version != version:
            return
        job = self.world.jobs[number]
        over = node.overdrawn(self.policy)
        turn = self._leave(node, ref, now)
        is_cut = turn.is_moving or any(kind == MEMORY or kind >= 0 for kind in over)
        repeated = self.tempo.item_seconds if is_cut else 0.0
        worked = now - turn.since
        repeated = min(repeated, worked)
        self._left[number] -= worked - repeated
        self.ledger.worked(job, turn.since, now, repeated)
        self._park(number, now)

    def _leave(self, node: SimNode, ref: str, now: float) -> Turn:
        turn = node.end(ref)
        del self._where[ref]
        self.ledger.left(node, self.world.jobs[turn.job], now)
        self._refresh(node, now)
        self._judge_at(node, math.floor(now) + self.tempo.sample_seconds)
        return turn

    def _refresh(self, node: SimNode, now: float) -> None:
        state = node.state
        margin = state.margin(node.view, self.policy)
        self.fresh.refresh(node.view, now, is_closed=state.is_saturated, margin=margin)
        self.resuming.refresh(node.view, now, is_closed=not state.takes_parked_work(now), margin=margin)
        self._is_dirty = True
        if margin:
            self._judge_at(node, math.floor(now + self.policy.peak_seconds) + 1)

    def _judge_at(self, node: SimNode, at: float) -> None:
        if (at, node.number) not in self._due:
            self._due.add((at, node.number))
            self._push(at, _JUDGE, node.number)

    def _on_judge(self, now: float, number: int, version: int, ref: str) -> None:
        self._due.discard((now, number))
        node = self.nodes[number]
        before = node.state
        node.state, judgement = judge(node.view, before, self.policy, now, self._needs)
        self.states[node.machine.name] = node.state
        for ref in judgement.yields:
            turn = node.turns[ref]
            self.ledger.yielded(turn, now)
            self._give_back_at_its_item(turn, now)
        self._refresh(node, now)
        self._look_again(node, now)

    def _look_again(self, node: SimNode, now: float) -> None:
        """Nothing happens to a node between two changes but the passing of the policy's own times."""
        policy, state = self.policy, node.state
        if state.contended_since is not None:
            due = state.contended_since + policy.contended_dwell_seconds
            if due > now:
                self._judge_at(node, math.ceil(due))
        if state.roomy_since is not None:
            self._judge_at(node, math.ceil(max(now + 1, state.roomy_since + policy.resume_dwell_seconds)))
        if state.cooldown_until > now:
            self._judge_at(node, math.ceil(state.cooldown_until))


def _rivals(world: World) -> dict[str, list[str]]:
    """For each queue those whose work some machine may run as well as its own."""
    queues = sorted({job.queue for job in world.jobs})
    served = {tuple(queue for queue in queues if machine.serves(queue)) for machine in world.machines}
    return {queue: [other for other in queues if any({queue, other} <= {*both} for both in served)] for queue in queues}
