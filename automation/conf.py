"""The settings of the engine, declared once: ``AUTOMATION = {...}`` in Django's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings as django_settings

SLUG = re.compile(r"[a-z][a-z0-9_-]{0,49}")
"""The slug of a pipeline or stage."""


@dataclass(frozen=True)
class AutomationSettings:
    lease_seconds: float = 15.0
    """A worker that is silent for this long has lost its slices."""
    loop_seconds: float = 60.0
    """A stage loop hands itself back after so long at work, so that every loop passes the gate again."""
    slice_seconds: float = 30.0
    """Work a slice should hold, as far as the stage's rate is known."""
    max_loops: int = 16
    """Loops of one stage run at most, where the stage declares no concurrency."""
    poison_crashes: int = 3
    """Processes that died on the same item, the last of them on it alone, before it is given up; 2 at least."""
    silent_leases: float = 4.0
    """A process that provably lives on this machine keeps what it holds for so many ``lease_seconds`` of silence."""
    max_item_bytes: int = 8 * 1024 * 1024
    """Largest item, as JSON, where the stage that makes it declares nothing else."""
    ticket_grace_seconds: float = 4.0
    """A message this old that is neither answered nor in the broker's queue counts as lost."""
    ticket_seconds: float = 600.0
    """A message this old counts as lost even if the broker cannot say."""
    retention_days: float | None = None
    """A run that ended so long ago is deleted, unless its pipeline or its site says otherwise; ``None``: never."""
    purge_seconds: float = 10.0
    """For so long, each minute, what deleted runs have left is taken away, half of it resting."""
    replaced_file_seconds: float = 3600.0
    """A file that was replaced, or written and never used, is kept for so long: somebody may be reading it."""
    item_timeout_seconds: float = 6 * 3600.0
    """How long one attempt at an item may take, where neither its stage nor its pipeline says."""
    hook_timeout_seconds: float = 6 * 3600.0
    """How long the making of a stage, its ``prepare`` and its ``finish`` may take, where the stage does not say."""
    overrun_grace_seconds: float = 5.0
    """Between asking what takes too long to end and killing its process."""
    ended_grace_seconds: float = 30.0
    """How long an item of a run that has failed or ended may go on before its process is killed."""
    turn_seconds: float = 3.0
    """A loop that has worked for so long makes room, between two items, for a run that waits for a worker."""
    progress_channel: str = "slackwater:progress"
    """Pub/sub channel that says which runs moved; two systems on one Redis need two names."""
    max_input_items: int = 20_000_000
    """Items a run may be created with."""
    max_json_bytes: int = 32 * 1024 * 1024
    """Largest JSON body that creates a run; it is held in memory."""
    max_upload_bytes: int = 1024 * 1024 * 1024
    """Largest form with a file that creates a run; it is kept on disk."""
    max_input_bytes: int = 1024 * 1024 * 1024
    """What a compressed input may unpack to."""
    max_input_columns: int = 2_000
    """Columns that a table may have."""

    @property
    def verdict_crashes(self) -> int:
        """``poison_crashes``, and one attempt with others and one alone at least."""
        return max(2, self.poison_crashes)

    @property
    def heartbeat_seconds(self) -> float:
        """How often whoever holds a slice says so."""
        return min(max(1.0, self.lease_seconds / 3), 5.0)


def settings() -> AutomationSettings:
    """The settings in force; system checks have vouched for the names and types."""
    return AutomationSettings(**getattr(django_settings, "AUTOMATION", {}))
