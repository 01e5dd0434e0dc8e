"""``/metrics`` as a Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.test import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pause_manager.observability import counters
from pause_manager.observability.exposition import state

METRICS = "/metrics"


@contextmanager
def renamed(table: str) -> Iterator[None]:
    """Meanwhile there is no such table: whoever reads or writes it fails as in a broken database."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO gone")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE gone RENAME TO {table}")


class Scrape:
    """One answer, parsed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    @classmethod
    def of_the_view(cls) -> Scrape:
        """The view's answer, with everything that this process has counted."""
        counters.flush()
        state.forget()
        answer = Client().get(METRICS)
        assert answer.status_code == 200
        return cls(answer.content.decode())

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one sample with exactly these labels, if there is one."""
        found = [sample.value for sample in self.samples if sample.name == name and sample.labels == labels]
        assert len(found) <= 1, found
        return found[0] if found else None

    def errors(self) -> set[str]:
        """The groups that could not be read."""
        return {s.labels["group"] for s in self.samples if s.name == "slackwater_scrape_errors" and s.value}
