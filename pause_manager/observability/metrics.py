"""Counters and histograms: the one place through which all instrumentation goes. Nothing called here ever raises.

A module that counts something declares it at its top and calls ``add``, ``observe`` or ``timed``. What is
counted is kept in memory, see ``counters``, and reaches ``/metrics`` of any process through the database; with
``statsd_url`` set it also goes out by UDP. Gauges are not counted but read when asked for, see ``exposition``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec

from django.dispatch import receiver

from pause_manager.observability import counters, statsd
from pause_manager.signals import layer_failed

logger = logging.getLogger("pause_manager.observability.metrics")

COMPLAIN_SECONDS = 60.0
LONGEST_LABEL = 80

SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

P = ParamSpec("P")

_next_complaint = 0.0


def guarded(instrument: Callable[P, object]) -> Callable[P, None]:
    """Wrap ``instrument`` so that it never raises but logs a warning, once per minute at most."""

    @functools.wraps(instrument)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            instrument(*args, **kwargs)
        except Exception as error:
            complain(instrument.__qualname__, error)

    return wrapper


def complain(what: str, error: Exception) -> None:
    """Say that ``what`` failed, unless something was said within the last minute."""
    global _next_complaint
    # Even telling must not fail: the error's own text may raise, or a handler of the log.
    with contextlib.suppress(Exception):
        if time.monotonic() >= _next_complaint:
            _next_complaint = time.monotonic() + COMPLAIN_SECONDS
            logger.warning("%s failed and the work continues: %s", what, _told(error))
    with contextlib.suppress(Exception):
        # Past what may have failed: what complains must not complain of itself.
        counters.add((DEGRADED.name, _labels(DEGRADED.labels, {"layer": "telemetry"}), 1.0))


def _told(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


@dataclass(frozen=True)
class Counter:
    """Something that only grows. ``name`` ends in ``_total``."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    @guarded
    def add(self, amount: float = 1, **labels: object) -> None:
        """Count ``amount`` more; every label of the declaration must be given."""
        if amount:
            text = _labels(self.labels, labels)
            counters.add((self.name, text, float(amount)))
            statsd.send(self.name, text, f"{amount:g}|c")


@dataclass(frozen=True)
class Histogram:
    """How long something took. ``name`` ends in ``_seconds``, ``buckets`` are upper bounds in seconds."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SHORT_SECONDS

    @guarded
    def observe(self, seconds: float, **labels: object) -> None:
        """Count one that took ``seconds``."""
        text = _labels(self.labels, labels)
        place = bisect_left(self.buckets, seconds)
        bound = f"{self.buckets[place]:g}" if place < len(self.buckets) else "+Inf"
        in_bucket = _labels((*self.labels, "le"), {**labels, "le": bound})
        counters.add((f"{self.name}_sum", text, float(seconds)), (f"{self.name}_bucket", in_bucket, 1.0))
        statsd.send(self.name, text, f"{seconds * 1000:.3f}|ms")

    @contextmanager
    def timed(self, **labels: object) -> Iterator[None]:
        """Measure the block, also when it raises."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.observe(time.monotonic() - began, **labels)


catalogue: dict[str, Counter | Histogram] = {}
"""Everything that is counted, by name."""


def counter(name: str, help: str, labels: tuple[str, ...] = ()) -> Counter:
    """Declare a counter."""
    return catalogue.setdefault(name, Counter(name, help, labels))  # type: ignore[return-value]


def histogram(
    name: str, help: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = SHORT_SECONDS
) -> Histogram:
    """Declare a histogram."""
    return catalogue.setdefault(name, Histogram(name, help, labels, buckets))  # type: ignore[return-value]


DEGRADED = counter(
    "slackwater_gate_degradations_total", "Times a layer of the gate could not be judged, by layer.", ("layer",)
)
"""By the names of ``gate_health.Layer``. ``slackwater_gate_degraded`` shows it until a minute later."""


counters.report_failures_to(complain)


@receiver(layer_failed)
def _count_failure(sender: object, layer: str, **_: object) -> None:
    DEGRADED.add(layer=layer)


def _labels(names: tuple[str, ...], given: dict[str, object]) -> str:
    """Canonical JSON of the labels. Raises ``ValueError`` if they are not those that were declared."""
    if given.keys() != set(names):
        raise ValueError(f"expected the labels {sorted(names)}, got: {sorted(given)}")
    if not names:
        return ""
    return json.dumps({name: str(given[name])[:LONGEST_LABEL] for name in sorted(names)}, separators=(",", ":"))
