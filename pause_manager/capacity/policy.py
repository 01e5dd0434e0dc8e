"""The numbers the capacity policy goes by."""

from __future__ import annotations

from dataclasses import dataclass, replace


class InvalidPolicy(ValueError):
    """A number of the policy is out of its range; the sentence names it."""


@dataclass(frozen=True)
class Policy:
    """Thresholds are free shares (0 to 1); times are seconds."""

    pause_below: float = 0.20
    """A node whose free share is strictly below this takes no new work."""
    resume_above: float = 0.30
    """A node takes parked work if its free share is at least this ..."""
    resume_dwell_seconds: float = 15.0
    """... and has been for this long, if the node was saturated or contended."""
    contended_dwell_seconds: float = 5.0
    """Other processes must need what our loops declared for this long before loops give it back."""
    minimum_run_seconds: float = 15.0
    """Of loops of equal priority, one that started more recently than this yields last."""
    yield_patience_seconds: float = 60.0
    """Work that was asked to yield and is still there after this long counts again, and other work is asked."""
    cpu_slack_cores: float = 0.25
    """CPU use of other processes up to this many cores ..."""
    cpu_slack_share: float = 0.02
    """... or up to this share of the node's cores, if that is more, is noise and counts as none."""
    cooldown_seconds: float = 15.0
    """A node whose loops had to yield takes no parked work for this long; doubles when it soon happens again."""
    cooldown_max_seconds: float = 900.0
    """Longest cooldown."""
    peak_seconds: float = 300.0
    """How long the peak of foreign use is remembered when parked work is placed."""
    sensor_lag_seconds: float = 60.0
    """How long an allocation may take to show in the sensor's figures."""
    offline_after_seconds: float = 3.0
    """A node whose sample is older is offline. Cannot be set: it is ``missed_samples`` × ``sample_seconds``."""
    packs: bool = True
    """Fill the fullest node that may take the work, so that whole nodes stay free; otherwise the emptiest first."""
    ramp_max: int = 4096
    """Most entries that one poll dispatches; the ramp 1, 2, 4, ... ends there."""
    pressure_share: float = 0.05
    """The ramp restarts at 1 when this share of the online nodes came under pressure since the last poll."""
    ageing_seconds: float = 1800.0
    """An entry gains one step of priority per this time that it waits; 0 switches ageing off."""
    reserve_after_seconds: float = 1800.0
    """An entry that fits nowhere for this long gets a node reserved for it."""
    consolidates: bool = True
    """Move small pausable work elsewhere when large work that waits then has room."""
    consolidate_after_seconds: float = 180.0
    """An entry must have waited this long before anything is moved for it."""
    consolidate_every_seconds: float = 60.0
    """How often moving is tried again for an entry while nothing can be moved."""
    move_cooldown_seconds: float = 1800.0
    """Work that was moved is not moved again within this time."""
    move_repeats_seconds: float = 600.0
    """Work that would have to repeat more than this is not moved."""
    move_patience_seconds: float = 300.0
    """How long a node is reserved for large work while what is in its way leaves."""
    adaptive: bool = False
    """Let observations (out of memory, repeated contention) move a node's threshold within the bounds."""
    adaptive_min: float = 0.10
    """Lowest threshold the adaptive mode sets."""
    adaptive_max: float = 0.50
    """Highest threshold the adaptive mode sets."""
    adaptive_step: float = 0.05
    """How far it moves the threshold at once."""
    adaptive_window_seconds: float = 3600.0
    """Two contentions within this time count as repeated."""
    adaptive_calm_seconds: float = 21600.0
    """After this long without trouble the threshold goes down by one step."""

    def __post_init__(self) -> None:
        if not 0 <= self.pause_below <= self.resume_above <= 1:
            raise InvalidPolicy(
                "Cannot use this policy: expected 0 <= pause_below <= resume_above <= 1, "
                f"got: {self.pause_below} and {self.resume_above}"
            )
        if not 0 <= self.adaptive_min <= self.adaptive_max <= 1:
            raise InvalidPolicy(
                "Cannot use this policy: expected 0 <= adaptive_min <= adaptive_max <= 1, "
                f"got: {self.adaptive_min} and {self.adaptive_max}"
            )
        for name, value in vars(self).items():
            if name.endswith("_seconds") and value < 0:
                raise InvalidPolicy(f"Cannot use this policy: expected {name} >= 0, got: {value}")
        if self.cpu_slack_cores < 0 or not 0 <= self.cpu_slack_share < 1:
            raise InvalidPolicy(
                "Cannot use this policy: expected cpu_slack_cores >= 0 and 0 <= cpu_slack_share < 1, "
                f"got: {self.cpu_slack_cores} and {self.cpu_slack_share}"
            )
        if not self.consolidate_every_seconds:
            raise InvalidPolicy("Cannot use this policy: expected consolidate_every_seconds > 0, got: 0")
        if self.ramp_max < 1:
            raise InvalidPolicy(f"Cannot use this policy: expected ramp_max >= 1, got: {self.ramp_max}")

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
