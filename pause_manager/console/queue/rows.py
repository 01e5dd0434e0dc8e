"""What waits, as the page of the pause queue lists it: in the order in which it continues, and why not now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils.dateparse import parse_datetime

from pause_manager import times, workloads
from pause_manager.capacity.needs import InvalidNeeds, Needs
from pause_manager.console import links
from pause_manager.console.links import Link
from pause_manager.holds import wording
from pause_manager.models import Hold, PauseQueueEntry, PauseQueueQuerySet
from pause_manager.models.clock import database_now
from pause_manager.pause_queue import explanation, outlook, unserved
from pause_manager.reasons import ORDER

PAGE_SIZE = 50
MOST_ENDED = 5_000
"""That many of what ended last are looked through for what a viewer may see."""
Outcome = PauseQueueEntry.Outcome
FILTERS: dict[str, str] = {
    "": "Waiting",
    "stuck": "Nobody takes it up",
    "sent": "Sent",
    "dropped": "Dropped",
    "expired": "Expired",
    "revoked": "Revoked",
}
_ENDED = {"sent": Outcome.SENT, "dropped": Outcome.DROPPED, "expired": Outcome.EXPIRED, "revoked": Outcome.REVOKED}


@dataclass(frozen=True)
class Row:
    """One entry. ``code`` says of what sort its reason is; ``sentence`` is empty for what has ended."""

    entry: PauseQueueEntry
    number: int | None
    subject: Link
    needs: str
    code: str
    sentence: str


@dataclass(frozen=True)
class Listed:
    """One page of entries, and the query of the next; empty on the last."""

    rows: list[Row]
    following: str


def listed(user: Any, chosen: str, asked: str) -> Listed:
    """Return a page of what ``user`` may see. ``asked`` is where the page before has ended; empty: the first page."""
    entries = workloads.visible_entries(user).light()
    if chosen in _ENDED:
        return _ended(entries, _ENDED[chosen], asked)
    entries = entries.stuck() if chosen == "stuck" else entries.waiting()
    entries = entries.order_by("priority", "paused_at", "id")
    place = _place(asked)
    if place is not None:
        priority, paused_at, pk, _ = place
        # The first condition alone is one look into the index; the rest tells ties apart.
        entries = entries.filter(priority__gte=priority).filter(
            Q(priority__gt=priority) | Q(paused_at__gt=paused_at) | Q(paused_at=paused_at, pk__gt=pk)
        )
    found = list(entries[: PAGE_SIZE + 1])
    first = place[3] if place is not None else 1
    shown = _rows(found[:PAGE_SIZE], first)
    if len(found) <= PAGE_SIZE:
        return Listed(shown, "")
    last = found[PAGE_SIZE - 1]
    return Listed(shown, f"{last.priority}_{last.paused_at.isoformat()}_{last.pk}_{first + PAGE_SIZE}")


def _ended(entries: PauseQueueQuerySet, outcome: str, asked: str) -> Listed:
    last = PauseQueueEntry.objects.filter(outcome=outcome, finished_at__isnull=False).order_by("-pk")
    if asked.isascii() and asked.isdecimal() and len(asked) < 19:
        last = last.filter(pk__lt=int(asked))
    found = list(entries.filter(pk__in=last.values("pk")[:MOST_ENDED]).order_by("-pk")[: PAGE_SIZE + 1])
    shown = [_row(entry, None, "", "") for entry in found[:PAGE_SIZE]]
    return Listed(shown, str(found[PAGE_SIZE - 1].pk) if len(found) > PAGE_SIZE else "")


def _place(asked: str) -> tuple[int, datetime, int, int] | None:
    """Parse where a page has ended: priority, time, id and the number that follows; ``None`` if it is none of ours."""
    parts = asked.split("_")
    if len(parts) != 4 or not all(text.isascii() and text.isdecimal() and len(text) < 19 for text in parts[::2]):
        return None
    try:
        moment = parse_datetime(parts[1])
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None or not (parts[3].isascii() and parts[3].isdecimal()):
        return None
    return min(int(parts[0]), 9), moment, int(parts[2]), int(parts[3][:12])


def _rows(entries: Sequence[PauseQueueEntry], first: int) -> list[Row]:
    holds = _holds(entries)
    now, looks = database_now(), outlook.of(entries)
    idle = set(unserved.of({entry.work_queue or entry.queue for entry in entries}))
    rows = []
    for number, entry in enumerate(entries, first):
        code, sentence = _why(entry, holds.get(entry.pk), looks.get(entry.pk), now, idle)
        rows.append(_row(entry, number, code, sentence))
    return rows


def _row(entry: PauseQueueEntry, number: int | None, code: str, sentence: str) -> Row:
    return Row(entry, number, links.of(entry.ref), _needs(entry.needs), code, sentence)


def _needs(needs: dict[str, Any]) -> str:
    try:
        return str(Needs(**{"cpu": 0, **needs})) if needs else "–"
    except (InvalidNeeds, TypeError):
        return ", ".join(f"{name} {amount}" for name, amount in needs.items())


def _holds(entries: Iterable[PauseQueueEntry]) -> dict[int, Hold]:
    """Return by entry the hold that its reason begins with. One statement."""
    scopes = {entry.pk: explanation.scopes_of(entry) for entry in entries}
    wanted = {scope for some in scopes.values() for scope in some}
    by_scope: dict[str, list[Hold]] = {}
    for hold in Hold.objects.covering(wanted).exclude(kind=Hold.Kind.CAPACITY) if wanted else ():
        by_scope.setdefault(hold.scope, []).append(hold)
    found = {}
    for pk, some in scopes.items():
        if on_it := [hold for scope in some for hold in by_scope.get(scope, ())]:
            found[pk] = min(on_it, key=_rank)
    return found


def _rank(hold: Hold) -> tuple[int, datetime]:
    return ORDER.index(wording.code_of(hold)), hold.created_at


def _why(
    entry: PauseQueueEntry, hold: Hold | None, look: outlook.Outlook | None, now: datetime, idle: set[str]
) -> tuple[str, str]:
    if entry.problem:
        return "problem", f"Nobody takes it up: {entry.get_problem_display()}."
    if entry.finished_at is not None:
        return "sent", "It is on its way."
    if hold is not None:
        return "hold", wording.reason_of(hold).sentence
    if entry.resume_after is not None and entry.resume_after > now:
        return "time", f"Not before {times.written(entry.resume_after)}."
    queue = entry.work_queue or entry.queue
    told = [unserved.sentence(queue)] if queue in idle else []
    if entry.waits_for == PauseQueueEntry.WaitsFor.CAPACITY:
        told.append(look.sentence if look else entry.reason)
        return "room", " ".join(told)
    told.append("Nothing holds it any more: the next poll sends it.")
    return "next", " ".join(told)
