"""Scrapes, and tallies that begin at nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def tallies(db: None) -> Iterator[None]:
    """Nothing has been counted yet, here or in the database."""
    from pause_manager.models import CounterTotal
    from pause_manager.observability import counters
    from pause_manager.observability.exposition import state

    counters._forget()
    CounterTotal.objects.all().delete()
    state.forget()
    yield
    counters._forget()


Sample = tuple[str, dict[str, str]]


@pytest.fixture
def scrape() -> Callable[[], Any]:
    """What ``/metrics`` tells now: a value by name and labels, as a Prometheus would read it."""
    from tests.support.scrape import Scrape

    return Scrape.of_the_view
