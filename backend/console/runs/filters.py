"""The filters of the list of runs, as they stand in the URL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import CharField, Exists, OuterRef, Q, Value
from django.db.models.functions import Cast, Concat
from django.utils.dateparse import parse_datetime

from automation.models import Lifecycle, RunDependency, Site
from automation.models.runs import RunQuerySet
from backend.console.runs.audience import Audience
from backend.console.runs.held import Held
from pause_manager import scopes
from pause_manager.console.pages import Query
from pause_manager.models import Hold

_SCOPE = Concat(Value(scopes.RUNS), Cast(OuterRef("pk"), CharField()), output_field=CharField())
_HOLDS = Hold.objects.active().filter(scope=_SCOPE)

BY_PEOPLE = (Hold.Kind.OPERATOR, Hold.Kind.FREEZE, Hold.Kind.BUDGET, Hold.Kind.NEEDS_INPUT)
"""Kinds of holds that a person must end; the others end by themselves."""

_UNFINISHED = Q(finished_at__isnull=True)
_NO_SEAT = Q(lane_seat_at__isnull=True, start_requested_at__isnull=False, cancel_requested_at__isnull=True)
_UNMET = Q(Exists(RunDependency.objects.filter(run=OuterRef("pk"), satisfied_at=None, released_at=None)))


class Filter(NamedTuple):
    """Its title, the runs that it lists, and the kinds of holds of which one must be on them."""

    title: str
    condition: Q
    kinds: tuple[str, ...] = ()


_HELD_BY_PEOPLE = Q(Exists(_HOLDS.filter(kind__in=BY_PEOPLE)))

FILTERS: dict[str, Filter] = {
    "": Filter("All", Q()),
    "active": Filter("Unfinished", _UNFINISHED),
    "running": Filter(
        "Running", _UNFINISHED & Q(lifecycle=Lifecycle.RUNNING, paused_at=None, lane_seat_at__isnull=False)
    ),
    "held": Filter("On hold", _UNFINISHED & Q(paused_at__isnull=False), BY_PEOPLE),
    "waiting": Filter(
        "Waiting",
        _UNFINISHED & ((Q(paused_at__isnull=False) & ~_HELD_BY_PEOPLE) | (Q(paused_at=None) & _NO_SEAT)),
    ),
    "completed": Filter("Completed", Q(lifecycle=Lifecycle.COMPLETED, failed_items=0)),
    "completed_with_failures": Filter("With failures", Q(lifecycle=Lifecycle.COMPLETED, failed_items__gt=0)),
    "failed": Filter("Failed", Q(lifecycle=Lifecycle.FAILED)),
    "cancelled": Filter("Cancelled", Q(lifecycle=Lifecycle.CANCELLED)),
}
ENDED = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})
"""Filters of runs that have ended."""
FORMER = {"paused": "held"}
"""Names of filters in URLs that people have kept."""

CAUSES: dict[str, Filter] = {
    **{
        kind: Filter(title, Q(), (kind,))
        for kind, title in (
            (Hold.Kind.OPERATOR.value, "paused by an operator"),
            (Hold.Kind.FREEZE.value, "frozen"),
            (Hold.Kind.NEEDS_INPUT.value, "a question is open"),
            (Hold.Kind.BUDGET.value, "budget"),
            (Hold.Kind.CAPACITY.value, "no room"),
            (Hold.Kind.WINDOW.value, "pause window"),
            (Hold.Kind.THROTTLED.value, "a service is throttled"),
        )
    },
    "dependency": Filter("another run", _UNMET),
    "lane": Filter("its lane", _NO_SEAT & Q(paused_at=None) & ~_UNMET),
}
LONGEST = 100


@dataclass(frozen=True)
class Wanted:
    """What a URL asks for; what it names wrongly is left out."""

    status: str = ""
    site: str = ""
    pipeline: str = ""
    lane: str = ""
    cause: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    span: str = ""

    @classmethod
    def of(cls, query: Query) -> Wanted:
        given = {name: query.get(name, "").replace("\0", "").strip()[:LONGEST] for name in _NAMES}
        status = FORMER.get(given["status"], given["status"])
        return cls(
            status if status in FILTERS else "",
            given["site"],
            given["pipeline"],
            given["lane"],
            given["cause"] if given["cause"] in CAUSES else "",
            given["q"].lower(),
            _moment(given["from"]),
            _moment(given["to"]),
            given["span"],
        )

    @property
    def is_any(self) -> bool:
        """Whether anything is left out of the list."""
        return self.narrowing or bool(self.status)

    def allows(self, status: str) -> bool:
        """Whether any run may be in ``status``: one that waits for a cause, or in a lane, has not ended."""
        return not (self.lane or self.cause) or status not in ENDED

    @property
    def narrowing(self) -> bool:
        """Whether more than a status is chosen."""
        return bool(self.site or self.pipeline or self.lane or self.cause or self.text or self.since or self.until)

    def url(self, **changed: str) -> str:
        """The query string with some values changed; an empty value leaves one out."""
        values = {
            "status": self.status,
            "site": self.site,
            "pipeline": self.pipeline,
            "lane": self.lane,
            "cause": self.cause,
            "q": self.text,
            "from": written(self.since),
            "to": written(self.until),
            "span": self.span,
        } | changed
        return urlencode({name: value for name, value in values.items() if value})


_NAMES = ("status", "site", "pipeline", "lane", "cause", "q", "from", "to", "span")


def narrowed(
    runs: RunQuerySet, wanted: Wanted, audience: Audience, held: Held, *, status: str | None = None
) -> RunQuerySet:
    """``runs`` by every filter but the text. A lane or a cause is one of unfinished runs."""
    runs = _by(FILTERS[wanted.status if status is None else status], runs, held)
    if wanted.site:
        runs = runs.filter(site__in=list(audience.sites().filter(slug=wanted.site).values_list("pk", flat=True)))
    if wanted.pipeline:
        runs = runs.filter(pipeline=wanted.pipeline)
    if wanted.lane:
        runs = runs.unfinished().filter(lane=wanted.lane)
    if wanted.cause:
        runs = _by(CAUSES[wanted.cause], runs.unfinished(), held)
    if wanted.since:
        runs = runs.filter(created_at__gte=wanted.since)
    return runs.filter(created_at__lt=wanted.until) if wanted.until else runs


def _by(chosen: Filter, runs: RunQuerySet, held: Held) -> RunQuerySet:
    runs = runs.filter(chosen.condition)
    return runs.filter(held.by(chosen.kinds)) if chosen.kinds else runs


def matching(text: str, audience: Audience, titles: dict[str, str]) -> list[Q]:
    """What a text may mean, each by itself quick to find: the start of an id, pipelines, sites."""
    found = []
    digits = text.replace("-", "")
    if 2 <= len(digits) <= 32 and set(digits) <= set("0123456789abcdef"):
        found.append(Q(pk__gte=UUID(digits.ljust(32, "0")), pk__lte=UUID(digits.ljust(32, "f"))))
    found += [Q(pipeline=slug) for slug, title in titles.items() if text in slug.lower() or text in title.lower()][:5]
    named = Q(name__icontains=text) | Q(slug__icontains=text)
    sites = audience.sites().filter(named).order_by("pk").values_list("pk", flat=True)
    return found + [Q(site=pk) for pk in sites[:5]]


def choices(audience: Audience) -> list[Site]:
    """The sites to choose from; the first hundred."""
    return list(audience.sites().order_by("name", "pk")[:LONGEST])


def written(moment: datetime | None) -> str:
    """A time as it stands in the URL."""
    return moment.isoformat().replace("+00:00", "Z") if moment else ""


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
