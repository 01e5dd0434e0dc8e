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
    """A stage loop hands itself back after this long, so that every loop passes the gate again."""
    slice_seconds: float = 30.0
    """Work that a slice should contain, as far as the stage's rate is known."""
    max_loops: int = 16
    """Most loops of one stage of one run, where the stage declares no concurrency."""
    poison_crashes: int = 3
    """Processes that must die on the same item, the last of them on it alone, before it fails for good; 2 at least."""
    silent_leases: float = 4.0
    """Number of ``lease_seconds`` after which a silent process loses its slices although it lives on this machine."""
    max_item_bytes: int = 8 * 1024 * 1024
    """Largest item, as JSON, where the stage that makes it declares no other limit."""
    ticket_grace_seconds: float = 4.0
    """A message this old that is neither confirmed nor in the broker's queue counts as lost."""
    ticket_seconds: float = 600.0
    """A message this old counts as lost even if the broker cannot tell."""
    retention_days: float | None = None
    """A run is deleted this long after its end, unless its pipeline or site has its own time; ``None``: never."""
    purge_seconds: float = 10.0
    """How long per minute rows of deleted runs are removed; half of that time is rest."""
    replaced_file_seconds: float = 3600.0
    """How long a file that was replaced, or written and never used, is stored: someone may be reading it."""
    item_timeout_seconds: float = 6 * 3600.0
    """How long one attempt at an item may take, where neither stage nor pipeline declares a limit; 0: no limit."""
    hook_timeout_seconds: float = 6 * 3600.0
    """How long making a stage, ``setup``, ``prepare``, ``finish`` and ``teardown`` may take each, where the stage
    declares no limit."""
    overrun_grace_seconds: float = 5.0
    """Time between asking an item that exceeds its limit to end and killing its process."""
    ended_grace_seconds: float = 30.0
    """How long an item of a run that has failed or ended may continue before its process is killed."""
    turn_seconds: float = 3.0
    """A loop that has worked this long makes room, between two items, for a run that waits for a worker."""
    progress_channel: str = "slackwater:progress"
    """Pub/sub channel that names the runs that made progress. Two systems on one Redis need two names."""
    schedule_grace_seconds: float = 600.0
    """An occurrence of a schedule that starts at most this late was not missed."""
    schedule_catch_up: int = 24
    """Most missed occurrences that a schedule with ``catch_up`` ``all`` starts."""
    schedule_history_days: float = 90.0
    """How long decided occurrences of schedules are stored."""
    max_schedule_items: int = 10_000
    """Most items that a schedule stores as the input of its runs."""
    max_input_items: int = 20_000_000
    """Most items of a run."""
    max_json_bytes: int = 32 * 1024 * 1024
    """Largest JSON body that creates a run; it is held in memory."""
    max_upload_bytes: int = 1024 * 1024 * 1024
    """Largest form with a file that creates a run; it is stored on disk."""
    max_input_bytes: int = 1024 * 1024 * 1024
    """Largest size that a compressed input may unpack to."""
    max_input_columns: int = 2_000
    """Most columns of a table."""

    @property
    def verdict_crashes(self) -> int:
        """``poison_crashes``, and one attempt with others and one alone at least."""
        return max(2, self.poison_crashes)

    @property
    def heartbeat_seconds(self) -> float:
        """How often the one that holds a slice says so."""
        return min(max(1.0, self.lease_seconds / 3), 5.0)


def settings() -> AutomationSettings:
    """The settings in force; system checks have vouched for the names and types."""
    return AutomationSettings(**getattr(django_settings, "AUTOMATION", {}))
