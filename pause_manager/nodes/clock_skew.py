"""Clock skew: hosts whose clock differs from the database's. It is reported to people and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.models import FleetWorker
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import members
from pause_manager.probes.processes import host_name


@dataclass(frozen=True)
class Clock:
    """A clock: ``offset`` is by how many seconds the database's is ahead of it."""

    who: str
    """What reads it: ``worker``, ``web``, ``beat``."""
    name: str
    host: str
    offset: float

    @property
    def is_wrong(self) -> bool:
        """Return whether it differs by more than ``clock_tolerance_seconds``."""
        return abs(self.offset) > conf.settings().clock_tolerance_seconds

    @property
    def sentence(self) -> str:
        """Return what to tell people."""
        word = "behind" if self.offset > 0 else "ahead of"
        return f"the clock of {self.name} on {self.host} is {abs(self.offset):.1f} s {word} the database's"


Provider = Callable[[], Iterable[Clock]]

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked for clocks; usable as a decorator. What it cannot tell now it leaves out."""
    _providers.append(provider)
    return provider


def all_clocks() -> list[Clock]:
    """Every clock that is known, this process's among them."""
    return [clock for provider in _providers for clock in provider()]


@register
def _of_workers() -> Iterable[Clock]:
    live = FleetWorker.objects.filter(
        last_seen_at__gte=Now() - timedelta(seconds=members.gone_seconds()), clock_offset__isnull=False
    )
    for name, node, offset in live.values_list("name", "node", "clock_offset"):
        assert offset is not None
        yield Clock("worker", f"worker {name}", node, offset)


@register
def _here() -> Iterable[Clock]:
    before = time.time()
    now = database_seconds()
    yield Clock("web", "the web process", host_name(), now - (before + time.time()) / 2)
