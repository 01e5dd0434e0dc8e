"""``/metrics`` for Prometheus: gauges read from the database when asked for, counts read from the tallies.

An app that has gauges registers a group, in its module ``gauges``: workers, which tell nothing, never load it.
A group that fails is left out, shows in ``slackwater_scrape_errors`` and keeps no other from being told. What was
read is good for a second, however many ask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import OperationalError, connection, transaction
from django.utils.module_loading import autodiscover_modules
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pause_manager.observability import metrics

CACHE_SECONDS = 1.0
STATEMENT_SECONDS = 2
"""A scrape gives up on a statement after this long: it must not pile up on a database that is slow already."""

Group = Callable[[], Iterable[Metric]]

_groups: dict[str, tuple[Group, bool]] = {}


def register(name: str, *, reads_database: bool = True) -> Callable[[Group], Group]:
    """Have the decorated group told. It gives every family it has, without samples if there are none."""

    def add(group: Group) -> Group:
        _groups[name] = (group, reads_database)
        return group

    return add


def gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    """A family without samples."""
    return GaugeMetricFamily(name, help, labels=list(labels))


@dataclass
class _Kept:
    read_at: float
    families: list[Metric]


class State(Collector):
    """Everything there is to tell, read once per second at most. What ``prometheus_client`` encodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept.read_at >= CACHE_SECONDS:
                self._kept = _Kept(time.monotonic(), read())
            return self._kept.families

    def forget(self) -> None:
        """Read again when next asked."""
        self._kept = None


state = State()


def read() -> list[Metric]:
    """Ask every group now. Those of the installed apps are in their modules ``gauges``."""
    autodiscover_modules("gauges")
    began = time.monotonic()
    errors = gauge("slackwater_scrape_errors", "1 for a group of metrics that could not be read just now.", "group")
    took = gauge("slackwater_scrape_duration_seconds", "Seconds that reading these metrics took.")
    families: list[Metric] = []
    is_away = False
    for name, (group, reads_database) in sorted(_groups.items()):
        try:
            if not reads_database:
                families += list(group())
            elif not is_away:
                families += _read_database(group)
            errors.add_metric([name], is_away and reads_database)
        except Exception as error:
            metrics.complain(f"Reading the metrics of {name}", error)
            errors.add_metric([name], 1)
            # Who could not connect once need not wait for it again with every group.
            is_away = is_away or (isinstance(error, OperationalError) and connection.connection is None)
    took.add_metric([], time.monotonic() - began)
    return [*families, errors, took]


def _read_database(group: Group) -> list[Metric]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        return list(group())
