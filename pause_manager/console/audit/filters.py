"""Which events the page of the audit trail shows, from the query string of its URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.utils.dateparse import parse_datetime

from pause_manager.models import ControlEventQuerySet
from pause_manager.models.clock import database_now
from pause_manager.observability import audit_export

SEARCHED = 10_000
"""Of the events that fit otherwise, the newest in whose reasons a text is looked for."""
AGES = {"1": "the last hour", "24": "the last day", "168": "the last 7 days", "720": "the last 30 days"}
NAMES = ("scope", "action", "actor", "channel", "text", "hours", "since", "until")


@dataclass(frozen=True)
class Filters:
    """What was asked for, and what of it could not be understood."""

    given: Mapping[str, str]
    wanted: dict[str, Any]
    text: str = ""
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """The filters of a query string; ``hours`` is an age, by the database's clock."""
        given = {name: query[name].strip() for name in NAMES if query.get(name, "").strip()}
        wanted: dict[str, Any] = {name: given[name][:160] for name in audit_export.EQUAL if name in given}
        if actor := wanted.get("actor"):
            wanted["actor"] = actor if ":" in actor or actor in SYSTEMS else f"user:{actor}"
        problems: list[str] = []
        for name in ("since", "until"):
            if name in given and (moment := _moment(given[name])) is not None:
                wanted[name] = moment
            elif name in given:
                problems.append(f"{name}: expected a time such as 2026-11-30T08:00Z, got: {given[name][:40]}.")
        if given.get("hours") in AGES:
            wanted["since"] = database_now() - timedelta(hours=int(given["hours"]))
        return cls(given, wanted, given.get("text", "")[:200], problems)

    def narrow(self, events: ControlEventQuerySet) -> ControlEventQuerySet:
        """``events`` that fit; a text is looked for in the newest :data:`SEARCHED` of them alone."""
        found = audit_export.narrowed(events, self.wanted)
        if not self.text or "\x00" in self.text:
            return found
        last = found.values_list("at", flat=True)[SEARCHED - 1 : SEARCHED].first()
        searched = found if last is None else found.filter(at__gte=last)
        return searched.filter(Q(reason__icontains=self.text) | Q(scope__icontains=self.text))

    @property
    def query(self) -> str:
        """The filters as a query string."""
        return urlencode(self.given)


SYSTEMS = ("system", "capacity")


def _moment(text: str) -> datetime | None:
    """A time; one without a zone is in UTC."""
    try:
        found = parse_datetime(text if "T" in text or " " in text else f"{text}T00:00:00")
    except ValueError:
        return None
    return found.replace(tzinfo=database_now().tzinfo) if found is not None and found.tzinfo is None else found
