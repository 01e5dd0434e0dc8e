"""A slice while a worker or an agent holds it."""

from __future__ import annotations

from dataclasses import dataclass

from automation import conf


@dataclass
class LeasedSlice:
    """A leased slice. ``cursor`` is the key of the last committed item."""

    slice_id: int
    token: int
    stage_run_id: int
    phase: int
    source_id: int | None
    first_key: str
    last_key: str
    cursor: str
    size: int
    crashes: int
    gpus: list[str]
    """Ids of the GPUs it may use; indices if it was leased before GPUs were booked by UUID."""
    node: str = ""
    """On which it was leased, by the name of that time."""
    done: int = 0
    """Items of it that were processed or have failed."""
    overrun_key: str = ""
    overrun_attempts: int = 0
    expiries: int = 0
    waits: int = 0
    waited_seconds: float = 0.0
    is_alone: bool = False
    places: int | None = None
    """Items of it that may be in progress at once because of the resources that it uses; ``None``: no limit."""
    probes: tuple[str, ...] = ()
    """The resources that it is the first to ask again."""
    paced: tuple[str, ...] = ()
    """The resources whose starts are counted."""

    @property
    def left(self) -> int:
        """Items of it that are neither done nor set apart."""
        return self.size - self.done

    @property
    def needs_care(self) -> bool:
        """Whether the item after the cursor, or one soon after it, has ended its loop: the cursor must say where."""
        has_overrun = self.overrun_attempts > 0 and self.overrun_key > self.cursor
        return self.crashes > 0 or self.expiries > 0 or has_overrun

    @property
    def is_suspect(self) -> bool:
        """Whether that was so often that the item is to be tried alone."""
        settings = conf.settings()
        return self.crashes >= settings.verdict_crashes - 1 or self.expiries >= settings.verdict_crashes
