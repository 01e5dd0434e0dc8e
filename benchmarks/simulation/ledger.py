"""What happened in a simulation, as it happens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from benchmarks.simulation.nodes import SimNode, Turn
from benchmarks.simulation.world import Job, World
from pause_manager.capacity import Policy, Waiting
from pause_manager.capacity.needs import Needs

STARVE_SECONDS = 3600.0
FLAP_SECONDS = 30.0
"""A loop that must yield sooner after it was resumed has flapped."""


class Ledger:
    """Counts and times; ``figures.figures`` reads it."""

    def __init__(self, world: World, policy: Policy) -> None:
        self._horizon = world.horizon
        self._policy = policy
        self.core_seconds = 0.0
        self.gpu_seconds = 0.0
        """Useful work up to the horizon; GPU work by the share of GPU memory it held."""
        self.repeated_seconds = 0.0
        self.yields = 0
        self.flaps = 0
        self.consolidations = 0
        self.moves = 0
        self.moved_at: dict[str, float] = {}
        self.moved_too_soon = 0
        """Moves within the cooldown of the last one of the same loop: must be 0."""
        self.resumes = 0
        self.starts = 0
        self.finishes = 0
        self.bad_starts = 0
        """Starts that overdrew a node whose last sample told the truth: must be 0."""
        self.misplaced = 0
        """Starts on a node whose workers do not serve the queue: must be 0."""
        self.unrunnable = 0
        self.over_seconds = 0.0
        self.over_events = 0
        self.over_worst = 0.0
        self.blind_over_seconds = 0.0
        """Overdrawn time at nodes without a working sensor, where nothing could be known."""
        self.waits: dict[str, float] = defaultdict(float)
        self.priorities: dict[str, int] = {}
        self.starved: list[str] = []
        self.own: list[tuple[float, float]] = []
        """Changes in the cores our loops hold, for the plot."""
        self.queue: list[tuple[float, int]] = []
        self._gpu_mib = {machine.gpu_mib for machine in world.machines if machine.gpus}
        self._latest: dict[tuple[Needs, int, str], float] = {}

    def waited(self, job: Job, since: float, now: float) -> None:
        self.waits[job.name] += now - since
        self.priorities[job.name] = job.priority
        key = (job.needs, job.priority, job.queue)
        self._latest[key] = max(since, self._latest.get(key, since))
        if now > since:
            self.queue.append((now, -1))

    def parked(self, now: float) -> None:
        self.queue.append((now, 1))

    def started(self, node: SimNode, job: Job, now: float) -> None:
        self.starts += 1
        if node.over_since is None and not node.sensor and now - node.changed_at > 1.0 and node.overdrawn(self._policy):
            self.bad_starts += 1
        self.misplaced += not node.machine.serves(job.queue)
        self.own.append((now, job.needs.cpu))
        self.watch(node, now)

    def left(self, node: SimNode, job: Job, now: float) -> None:
        self.own.append((now, -job.needs.cpu))
        self.watch(node, now)

    def finished(self, job: Job, now: float) -> None:
        self.finishes += 1

    def worked(self, job: Job, since: float, until: float, repeated: float = 0.0) -> None:
        seconds = max(0.0, min(until, self._horizon) - since - repeated)
        self.core_seconds += seconds * job.needs.cpu
        self.gpu_seconds += seconds * gpu_share(job.needs, self._gpu_mib)
        self.repeated_seconds += repeated

    def yielded(self, turn: Turn, now: float) -> None:
        self.yields += 1
        turn.is_yielding = True
        if turn.is_resumed and now - turn.since < FLAP_SECONDS:
            self.flaps += 1

    def moved(self, turn: Turn, now: float) -> None:
        self.moves += 1
        before = self.moved_at.get(turn.allocation.ref, float("-inf"))
        self.moved_too_soon += now - before < self._policy.move_cooldown_seconds
        self.moved_at[turn.allocation.ref] = now
        if turn.is_resumed and now - turn.since < FLAP_SECONDS:
            self.flaps += 1

    def watch(self, node: SimNode, now: float) -> None:
        """Start or stop the clock of a node that is overdrawn."""
        is_over = bool(node.overdrawn(self._policy))
        if is_over and node.over_since is None:
            node.over_since = now
        elif not is_over:
            self.stop_watching(node, now)

    def stop_watching(self, node: SimNode, now: float) -> None:
        """Book the time a node was overdrawn by the sensor it had in that time."""
        if node.over_since is not None:
            self._over(node, now)
            node.over_since = None

    def _over(self, node: SimNode, now: float) -> None:
        seconds = now - (node.over_since or 0.0)
        if node.sensor:
            self.blind_over_seconds += seconds
            return
        self.over_seconds += seconds
        self.over_events += 1
        self.over_worst = max(self.over_worst, seconds)

    def close(self, nodes: Iterable[SimNode], waiting: Iterable[Waiting], now: float) -> None:
        """Book what is still running or waiting at the end."""
        for node in nodes:
            if node.over_since is not None:
                self._over(node, now)
            for turn in node.turns.values():
                self.core_seconds += (now - turn.since) * turn.allocation.needs.cpu
                self.gpu_seconds += (now - turn.since) * gpu_share(turn.allocation.needs, self._gpu_mib)
        for entry in waiting:
            self.waits[entry.ref] += now - entry.paused_at
            self.priorities[entry.ref] = entry.priority
            if self._was_passed(entry):
                self.starved.append(entry.ref)

    def _was_passed(self, entry: Waiting) -> bool:
        """Whether equal work, no more urgent, that came an hour later continued before it."""
        return any(
            self._latest.get((entry.needs, priority, entry.queue), -1.0) >= entry.paused_at + STARVE_SECONDS
            for priority in range(entry.priority, 6)
        )


def gpu_share(needs: Needs, sizes: set[int]) -> float:
    """GPUs held, each by its share of memory; a whole one where no memory is declared."""
    size = max(sizes, default=0)
    if not needs.gpus or not size:
        return 0.0
    return needs.gpus * (needs.gpu_memory_mib / size if needs.gpu_memory_mib else 1.0)
