"""When what a hold stops has stopped, and when work went on after it: noted once a hold, with an event and figures.

The hold of a run is looked after by whoever owns runs. Those on more (fleet, queue, pipeline, node) are looked after
here: whoever has work registers a provider that tells what is at hand under them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.dispatch import receiver

from pause_manager.holds import writer
from pause_manager.holds.writer import Noted
from pause_manager.models import ControlEvent, Hold
from pause_manager.observability import audit, metrics
from pause_manager.observability.actor import SYSTEM
from pause_manager.signals import hold_changed

SETTLING = metrics.histogram(
    "slackwater_pause_settle_seconds",
    "From a hold on work that was running until the last of it had stopped, by scope, kind and mode of the hold.",
    ("scope", "kind", "mode"),
    metrics.LONG_SECONDS,
)
GOING_ON = metrics.histogram(
    "slackwater_resume_seconds",
    "From the release of a hold to the first work after it, by scope and kind of the hold.",
    ("scope", "kind"),
    metrics.LONG_SECONDS,
)

Counts = dict[str, int]
Provider = Callable[[Collection[str]], Mapping[str, Counts]]
"""Of the scopes, those under which something is at hand, and how much, as ``{"fleet": {"leases": 12, "runs": 3}}``.
A constant number of statements."""

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked; usable as a decorator."""
    _providers.append(provider)
    return provider


Reporting = Callable[[Collection[str]], set[str]]
"""Of the held scopes, those of which somebody who may be at work has not yet said that he obeys the hold."""

_reporting: list[Reporting] = []


def register_reporting(provider: Reporting) -> Reporting:
    """Have ``provider`` asked before a hold is said to have settled; usable as a decorator."""
    _reporting.append(provider)
    return provider


def at_hand(scopes: Collection[str]) -> dict[str, Counts]:
    """Those of ``scopes`` under which something is at work, with how much of what."""
    found: dict[str, Counts] = {}
    for provider in _providers:
        for scope, counts in provider(scopes).items():
            found.setdefault(scope, {}).update(counts)
    return found


def look(scopes: Collection[str] | None = None) -> int:
    """Note which holds on more than a run (of ``scopes``, or all) have come to rest; returns how many.

    While a scope is held nothing of it starts, so what is found at rest stays so. One statement if nothing is due.
    """
    due = Hold.objects.active().filter(settled_at__isnull=True).exclude(scope__startswith="run:")
    if scopes is not None:
        due = due.filter(scope__in=list(scopes))
    unsettled = set(due.values_list("scope", flat=True))
    if not unsettled:
        return 0
    busy = set(at_hand(unsettled)).union(*(provider(unsettled) for provider in _reporting))
    return settled([scope for scope in unsettled if scope not in busy])


def settled(scopes: Sequence[str], *, had_work: bool = True) -> int:
    """Note, once a hold, that nothing of ``scopes`` is at work any more; returns for how many holds that was news.

    How long it took is measured and told, unless nothing was at work in the first place: ``had_work`` says so of runs,
    and of other scopes what was counted when they were held.
    """
    if not scopes:
        return 0
    with transaction.atomic():
        noted = writer.note_settled(scopes)
        stopped = _that_stopped(noted, had_work)
        _tell("settled", stopped, "What it stopped has come to rest.")
    for one, _ in stopped:
        _observe(SETTLING, one, mode=one.mode)
    return len(noted)


def went_on(scopes: Sequence[str]) -> int:
    """Note, once a hold, that the first work under ``scopes`` after its release has begun; returns for how many.

    Where several were released, work waited for the last of them only, and that is measured. A hold on more than a run
    that had stopped nothing is neither measured nor told of: nothing need have waited for its end.
    """
    with transaction.atomic():
        noted = writer.note_went_on(scopes)
        stopped = _that_stopped(noted)
        _tell("went_on", stopped, "The first work after its release has begun.")
    if stopped:
        _observe(GOING_ON, min((one for one, _ in stopped), key=lambda one: one.seconds))
    return len(noted)


def _that_stopped(noted: Sequence[Noted], had_work: bool = True) -> list[tuple[Noted, Counts]]:
    """Those of the holds that have stopped something, each with what was at hand when it was placed."""
    wide = [one for one in noted if not one.scope.startswith("run:")]
    counts: dict[int, Counts] = {}
    if wide:
        placed = ControlEvent.objects.filter(action="hold_placed", scope__in={one.scope for one in wide})
        of_these = placed.filter(figures__hold__in=[one.hold for one in wide])
        counts = {figures["hold"]: figures.get("at_hand", {}) for figures in of_these.values_list("figures", flat=True)}
    for one in wide:
        if one.stopped:
            counts[one.hold] = {**counts.get(one.hold, {}), "tasks": one.stopped}
    return [
        (one, counts.get(one.hold, {}))
        for one in noted
        if (had_work if one.scope.startswith("run:") else counts.get(one.hold))
    ]


def _tell(action: str, stopped: Sequence[tuple[Noted, Counts]], reason: str) -> None:
    if stopped:
        known = [
            (one.scope, {"hold": one.hold, "kind": one.kind, "mode": one.mode, "seconds": one.seconds, **counts})
            for one, counts in stopped
        ]
        audit.record_each(action, known, actor=SYSTEM, reason=reason)


def _observe(measure: metrics.Histogram, one: Noted, **labels: str) -> None:
    subject = one.scope.partition(":")[0]
    transaction.on_commit(lambda: measure.observe(one.seconds, scope=subject, kind=one.kind, **labels), robust=True)


@receiver(hold_changed)
def _count(sender: object, scopes: list[str], change: str, figures: dict[str, dict[str, Any]], **_: object) -> None:
    """Keep with the event what a hold on more than a run finds at work; look again when it is in force."""
    wide = [scope for scope in scopes if not scope.startswith("run:")]
    if change == "placed" and wide:
        metrics.guarded(_add_counts)(wide, figures)
        transaction.on_commit(lambda: metrics.guarded(look)(wide), robust=True)


def _add_counts(scopes: list[str], figures: dict[str, dict[str, Any]]) -> None:
    # A failure here must not break the transaction that places the hold.
    with transaction.atomic():
        for scope, counts in at_hand(scopes).items():
            figures.setdefault(scope, {})["at_hand"] = counts
