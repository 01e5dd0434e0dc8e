"""The numbers the capacity policy goes by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pause_manager.capacity.policy_groups import Adaptive, Consolidation, Dwell, Queue, Thresholds, place_of


class InvalidPolicy(ValueError):
    """A number of the policy is out of its range; the sentence names it."""


@dataclass(frozen=True)
class Policy(Thresholds, Dwell, Queue, Consolidation, Adaptive):
    """All options. Thresholds are free shares (0 to 1); times are seconds."""

    offline_after_seconds: float = 3.0
    """A node whose sample is older is offline. Cannot be set: it is ``missed_samples`` × ``sample_seconds``."""

    def __post_init__(self) -> None:
        if not 0 <= self.pause_below <= self.resume_above <= 1:
            raise InvalidPolicy(
                "Cannot use this policy: expected 0 <= pause_below <= resume_above <= 1, "
                f"got: {self.pause_below} and {self.resume_above}"
            )
        if not 0 <= self.adaptive_min <= self.adaptive_max <= 1:
            raise InvalidPolicy(
                "Cannot use this policy: expected 0 <= adaptive.min <= adaptive.max <= 1, "
                f"got: {self.adaptive_min} and {self.adaptive_max}"
            )
        for name, value in vars(self).items():
            if name.endswith("_seconds") and value < 0:
                raise InvalidPolicy(f"Cannot use this policy: expected {place_of(name)} >= 0, got: {value}")
        if self.cpu_slack_cores < 0 or not 0 <= self.cpu_slack_share < 1:
            raise InvalidPolicy(
                "Cannot use this policy: expected cpu_slack_cores >= 0 and 0 <= cpu_slack_share < 1, "
                f"got: {self.cpu_slack_cores} and {self.cpu_slack_share}"
            )
        if not self.consolidate_every_seconds:
            raise InvalidPolicy("Cannot use this policy: expected consolidation.every_seconds > 0, got: 0")
        if self.ramp_max < 1:
            raise InvalidPolicy(f"Cannot use this policy: expected queue.ramp_max >= 1, got: {self.ramp_max}")

    def with_pause_below(self, share: float) -> Policy:
        """The same with another threshold; parked work resumes as far above it as before, at most at 1."""
        return replace(self, pause_below=share, resume_above=min(1.0, round(share + self.gap, 9)))

    def pause_threshold(self, own: float | None, moved_by: float = 0.0) -> float:
        """The free share below which a node takes no new work.

        ``own`` is the node's own setting and wins; otherwise ``moved_by`` is how far the adaptive mode has moved it.
        """
        return min(max(round(self.pause_below + moved_by, 9), 0.0), 1.0) if own is None else own

    def resume_threshold(self, own: float | None, moved_by: float = 0.0) -> float:
        """The free share a node must have for parked work: as far above its pause threshold as the policy says."""
        return min(1.0, round(self.pause_threshold(own, moved_by) + self.gap, 9))

    @property
    def gap(self) -> float:
        """The distance of the two thresholds."""
        return round(self.resume_above - self.pause_below, 9)
