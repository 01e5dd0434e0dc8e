"""The audit trail as CSV or JSON lines, chunk by chunk: memory does not grow with what is exported."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
from django.db.models import F, Q, QuerySet, Value
from django.http import StreamingHttpResponse
from django.utils import timezone

from pause_manager import workloads
from pause_manager.models import ControlEvent, ControlEventQuerySet
from pause_manager.observability.streaming import download

CHUNK = 1_000
COLUMNS = (
    "id",
    "at",
    "action",
    "scope",
    "actor",
    "channel",
    "reason",
    "request_id",
    "before",
    "after",
    "details",
)
EQUAL = ("scope", "action", "actor", "channel", "request_id")
"""What events are asked for by."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def chunks(events: QuerySet[ControlEvent]) -> Iterator[list[ControlEvent]]:
    """The events, newest first. Each chunk is a statement of its own: no transaction stays open meanwhile."""
    rows = events if events.query.order_by else events.order_by("-at", "-id")
    found = list(rows[:CHUNK])
    while found:
        yield found
        last = found[-1]
        after = Q(at__lt=last.at) | Q(at=last.at, id__lt=last.pk)
        # The first condition is what the index goes by.
        found = list(rows.filter(at__lte=last.at).filter(after)[:CHUNK]) if len(found) == CHUNK else []


def as_csv(events: list[ControlEvent], *, with_header: bool) -> bytes:
    """Lines of CSV by RFC 4180. What a spreadsheet would take for a formula is made a text with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    if with_header:
        writer.writerow(COLUMNS)
    writer.writerows([_cell(getattr(event, name)) for name in COLUMNS] for event in events)
    return text.getvalue().encode()


def as_jsonl(events: list[ControlEvent], *, with_header: bool) -> bytes:
    """One JSON object an event and line."""
    return b"".join(orjson.dumps({name: getattr(event, name) for name in COLUMNS}) + b"\n" for event in events)


Encoder = Callable[..., bytes]
Telling = Callable[[list[ControlEvent]], list[ControlEvent]]

ENCODERS: dict[str, tuple[Encoder, str]] = {"csv": (as_csv, "text/csv"), "jsonl": (as_jsonl, "application/jsonl")}
"""By format, how it is written and its media type."""


def encoded(events: QuerySet[ControlEvent], format: str, told: Telling = list) -> Iterator[tuple[bytes, int]]:
    """The file in pieces, each with how many events it has; CSV has its header even without any.

    ``told`` makes of events what is told of them.
    """
    encode, _ = ENCODERS[format]
    is_first = True
    for chunk in chunks(events):
        yield encode(told(chunk), with_header=is_first), len(chunk)
        is_first = False
    if is_first:
        yield encode([], with_header=True), 0


def narrowed(events: ControlEventQuerySet, query: Mapping[str, Any]) -> ControlEventQuerySet:
    """``events`` by any of :data:`EQUAL`, and ``since`` and ``until``; newest first."""
    # The few of one thing are sorted. In the order of an index, the planner may walk all events for them.
    of_one = any(name in query for name in ("scope", "request_id"))
    at = (F("at") + Value(timedelta(0))).desc() if of_one else F("at").desc()
    events = events.order_by(at, "-id").filter(**{name: query[name] for name in EQUAL if name in query})
    if "since" in query:
        events = events.filter(at__gte=query["since"])
    return events.filter(at__lt=query["until"]) if "until" in query else events


def exported(request: Any, events: QuerySet[ControlEvent], format: str) -> StreamingHttpResponse:
    """The download of ``events``, with what of them is for who asks."""
    told = partial(workloads.events_for, request.user)
    pieces = (piece for piece, _ in encoded(events, format, told))
    name = f"audit-{timezone.now():%Y%m%d-%H%M%S}.{format}"
    plain = getattr(request, "_request", request)
    return download(plain, pieces, name=name, content_type=ENCODERS[format][1])


def _cell(value: object) -> object:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
