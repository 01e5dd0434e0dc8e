"""Resources as people see them: state, limits, what uses them and what waits for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from pause_manager import scopes, times, workloads
from pause_manager.errors import InvalidResource, UnknownResource
from pause_manager.models import Hold, Resource
from pause_manager.resources.limits import PERMITTED, RESOURCE, values
from pause_manager.workloads import Waiter


@dataclass(frozen=True)
class HoldOnIt:
    """A hold in force on the resource."""

    kind: str
    mode: str
    reason: str
    actor: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True)
class ResourceReport:
    """One resource. Times are of the database's clock."""

    name: str
    state: str
    sentence: str
    max_at_once: int | None
    max_per_minute: int | None
    permitted: int | None
    """How many may use it at once because of what it said; ``None``: it has said nothing."""
    in_use: int
    waiting: int
    """Tasks in the pause queue that use it, and running stages that have work for it and no loop."""
    throttled_at: datetime | None
    throttled_by: str
    next_probe_at: datetime | None
    next_start_at: datetime | None
    strikes: int
    holds: tuple[HoldOnIt, ...]


def of_all() -> list[ResourceReport]:
    """Every resource that is limited, has said "too much", is held, or that work declares to use; by name."""
    held = Hold.objects.active().filter(scope__startswith=scopes.resource("")).values_list("scope", flat=True)
    return _of(known() | {scopes.parse(scope)[1] for scope in held})


MOST_IN_LINE = 20


def line(name: str, user: Any, at_most: int = MOST_IN_LINE) -> list[Waiter]:
    """The first that wait for it, of each kind in the order in which they start, as far as ``user`` may see them.

    ``None``: everybody's.
    """
    return workloads.line(name, at_most, user)


def known() -> set[str]:
    """The resources that work declares to use, and those that were limited or have said "too much"."""
    return workloads.used_resources().union(Resource.objects.values_list("name", flat=True))


def of(name: str) -> ResourceReport:
    """One resource. Raises ``InvalidResource``, and ``UnknownResource`` for a name that nobody has used."""
    if not scopes.RESOURCE_NAME.fullmatch(name):
        raise InvalidResource(f"Cannot look for resource {name[:80]!r}: expected {scopes.RESOURCE_NAMES}.")
    found = {one.name: one for one in of_all()}
    if name not in found:
        listed = ", ".join(found) or "none"
        raise UnknownResource(f"Cannot find resource {name}: nothing uses it, and it has no limit (known: {listed}).")
    return found[name]


def _of(names: Collection[str]) -> list[ResourceReport]:
    rows = _rows(names)
    used = workloads.in_use(dict.fromkeys(names))
    waiting = workloads.waiting_for(names)
    holds: dict[str, list[HoldOnIt]] = {}
    columns = list(HoldOnIt.__dataclass_fields__)
    for hold in Hold.objects.covering(map(scopes.resource, names)).order_by("id").values("scope", *columns):
        holds.setdefault(scopes.parse(hold.pop("scope"))[1], []).append(HoldOnIt(**hold))
    found = []
    for name in sorted(names):
        row = rows.get(name) or _unlimited(name)
        on_it = tuple(holds.get(name, ()))
        sentence = _sentence(row, on_it, used[name])
        columns = ["name", "state", "max_at_once", "max_per_minute", "permitted", "throttled_at", "throttled_by"]
        columns += ["next_probe_at", "next_start_at", "strikes"]
        told = {column: row[column] for column in columns}
        found.append(ResourceReport(**told, sentence=sentence, in_use=used[name], waiting=waiting[name], holds=on_it))
    return found


def _sentence(row: dict[str, Any], holds: tuple[HoldOnIt, ...], in_use: int) -> str:
    by_hand = [hold for hold in holds if hold.kind != Hold.Kind.THROTTLED]
    told = []
    if by_hand:
        who, why = by_hand[0].actor.removeprefix("user:"), by_hand[0].reason or "no reason given"
        until = f", until {times.written(by_hand[0].expires_at)}" if by_hand[0].expires_at else ""
        told.append(f"Held by {who}: {why.removesuffix('.')}{until}.")
    if row["state"] == Resource.State.HELD:
        when, again = times.written(row["throttled_at"]), times.written(row["next_probe_at"])
        told.append(f"It said “too much” at {when} to {row['throttled_by']}; it is asked again at {again}.")
    elif row["state"] == Resource.State.PROBING:
        since = times.written(row["probing_since"])
        told.append(f"It said “too much” at {times.written(row['throttled_at'])}; one asks it again since {since}.")
    elif row["state"] == Resource.State.RAMPING:
        told.append(f"It answers again after “too much”: {row['permitted']} at once now, twice as many in a moment.")
    limits = [f"{row['max_at_once']:,} at once"] if row["max_at_once"] is not None else []
    limits += [f"{row['max_per_minute']:,} starts a minute"] if row["max_per_minute"] is not None else []
    if limits:
        told.append(f"Limited to {' and '.join(limits)}; {in_use:,} in use.")
    return " ".join(told) or f"Open, without a limit; {in_use:,} in use."


def _rows(names: Collection[str]) -> dict[str, dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT resource.*, {PERMITTED} AS permitted FROM {RESOURCE} AS resource WHERE name = ANY(%(names)s)",
            {"names": list(names), **values()},
        )
        columns = [column.name for column in cursor.description or ()]
        return {row["name"]: row for row in (dict(zip(columns, one, strict=True)) for one in cursor.fetchall())}


def _unlimited(name: str) -> dict[str, Any]:
    row = Resource(name=name)
    return {field.attname: getattr(row, field.attname) for field in Resource._meta.concrete_fields} | {
        "permitted": None,
        "state": str(row.state),
    }
