"""What needs a person: one line each, with where to look and what to do about it. The worst come first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.db.models.functions import Now, Substr
from django.urls import reverse

from automation.gate import installed_code
from automation.models import AutomationRun, Lane, RunQuestion
from automation.reports import payload_access
from backend.console import access
from pause_manager import workloads
from pause_manager.console import links, pages
from pause_manager.console.links import Link
from pause_manager.console.palette import Ask
from pause_manager.console.viewer import Viewer
from pause_manager.health import Verdict
from pause_manager.health.flow import FORGOTTEN
from pause_manager.holds import fleet_state
from pause_manager.holds.fleet_state import FleetState
from pause_manager.models import Hold
from pause_manager.models.clock import database_now
from pause_manager.models.fleet import OPERATE as OPERATE_FLEET
from pause_manager.nodes import members
from pause_manager.pause_queue import totals
from pause_manager.scopes import RUNS, runs_in

MOST = 5
"""Of a kind; what is more is one line that says how many."""
PARKED_SECONDS = 900
LANES = "lane:"

WHERE = {
    "runs": ("code_missing", "loops_fail", "files_not_shared"),
    "runs?status=failed": ("runs_fail",),
    "failures": ("items_fail",),
    "pause-queue": ("queue_unserved",),
}
"""The page that shows a finding; stuck messages are in the pause queue, all others are the fleet's."""


@dataclass(frozen=True)
class Need:
    """One line: ``level`` is ``bad`` (somebody must act), ``ask`` (somebody is asked) or ``note`` (worth a look)."""

    key: str
    level: str
    sentence: str
    hint: str = ""
    detail: str = ""
    since: datetime | None = None
    actor: str = ""
    link: Link | None = None
    verb: str = ""
    act: dict[str, str] = field(default_factory=dict)
    """The button, as attributes; empty without one."""


def of(viewer: Viewer, user: Any, verdict: Verdict) -> list[Need]:
    """Everything that needs a person, as far as the viewer may see it. A constant number of statements."""
    found = [*_questions(user), *_problems(viewer, user, verdict), *_fleet(user)]
    return [*found, *_frozen(viewer, user), *_forgotten(viewer, user), *_oldest_parked(viewer, user)]


def _page(user: Any, name: str) -> Link | None:
    name, _, query = name.partition("?")
    page = pages.get(name)
    if page is None or not page.may_view(user):
        return None
    return Link(page.title, reverse(f"console:{name}") + (f"?{query}" if query else ""))


def _problems(viewer: Viewer, user: Any, verdict: Verdict) -> Iterator[Need]:
    pages_of = {code: name for name, codes in WHERE.items() for code in codes}
    for answer in verdict.answers:
        for one in answer.findings:
            is_lost = one.code == "workers_silent"
            if one.level == "problem" or is_lost:
                name = pages_of.get(one.code, "pause-queue" if one.code.startswith("stuck_") else "fleet")
                detail = one.detail if viewer.has_perm(OPERATE_FLEET) else ""
                hint = f"Likely cause: {one.cause}. Next: {one.next_step}." if one.cause else one.next_step
                link = _page(user, name) or _page(user, "runs")
                yield Need(one.code, "note" if is_lost else "bad", one.sentence, hint, detail, one.since, link=link)


def _questions(user: Any) -> Iterator[Need]:
    visible = AutomationRun.objects.visible_to(user)
    rows = RunQuestion.objects.open().filter(run__in=visible).select_related("run").order_by("asked_at")
    found, is_shown = list(rows[: MOST + 1]), payload_access.may_view(user)
    for one in found[:MOST]:
        title = f"{installed_code.pipeline_title(one.run.pipeline)} {str(one.run.pk)[:8]}"
        yield Need(
            f"question-{one.pk}",
            "ask",
            f"{title} asks: {payload_access.question(one, is_shown=is_shown)}",
            since=one.asked_at,
            link=Link("Answer", reverse("console:run", args=[one.run_id])),
        )
    if len(found) > MOST:
        yield Need("more-questions", "ask", f"More than {MOST} questions are open.", link=_page(user, "runs"))


def _fleet(user: Any) -> Iterator[Need]:
    state: FleetState = fleet_state.read()
    if not state.is_readable or not state.is_paused:
        return
    workers = members.of_version(state.version)
    if lagging := len(workers.lagging):
        yield Need(
            "lagging",
            "note",
            f"{lagging:,} of {workers.total:,} workers {'has' if lagging == 1 else 'have'} not obeyed the pause yet.",
            since=state.requested_at,
            link=_page(user, "fleet"),
        )


def _frozen(viewer: Viewer, user: Any) -> Iterator[Need]:
    lane = Lane.objects.visible_to(user).filter(name=Substr(OuterRef("scope"), len(LANES) + 1))
    frozen = Hold.objects.active().filter(kind=Hold.Kind.FREEZE, scope__startswith=LANES)
    rows = frozen.filter(Exists(lane)).order_by("created_at")
    for one in rows[:MOST]:
        name = one.scope.partition(":")[2]
        may_lift = viewer.has_perm(access.OPERATE)
        ask = Ask(
            reverse("console:overview"),
            f"Unfreeze lane {name}?",
            "Unfreeze",
            {"do": "unfreeze", "lane": name},
            text="Runs of the lane start again in their order.",
            reason="optional",
        )
        yield Need(
            f"hold-{one.pk}",
            "note",
            f"Lane {name} is frozen: {one.reason}",
            since=one.created_at,
            actor=one.actor,
            link=_page(user, "lanes"),
            verb="Unfreeze" if may_lift else "",
            act=ask.attributes() if may_lift else {},
        )


def _forgotten(viewer: Viewer, user: Any) -> Iterator[Need]:
    old = Hold.objects.active().filter(
        kind=Hold.Kind.OPERATOR, expires_at__isnull=True, created_at__lt=Now() - FORGOTTEN
    )
    rows = old.exclude(scope="fleet").order_by("created_at")
    may_operate = viewer.has_perm(OPERATE_FLEET)
    if not may_operate:
        rows = rows.exclude(workloads.hidden_scopes(user))
    found = rows.values_list("pk", "scope", "reason", "created_at", "actor", named=True)
    shown = list(_visible(user, list(found[:200])))
    for one in shown[:MOST]:
        where = links.of(one.scope)
        may_release = viewer.has_perm(access.OPERATE) if one.scope.startswith(RUNS) else may_operate
        ask = Ask(
            reverse("console:overview"),
            f"Release the hold on {where.title}?",
            "Release",
            {"do": "release", "scope": one.scope},
            text="What it stops continues, unless something else keeps it.",
            reason="optional",
        )
        yield Need(
            f"hold-{one.pk}",
            "note",
            f"{where.title[:1].upper()}{where.title[1:]} has been held for more than a day"
            + (f": {one.reason}" if one.reason else "."),
            since=one.created_at,
            actor=one.actor,
            link=Link("Look", where.url) if where.url else _page(user, "fleet"),
            verb="Release" if may_release else "",
            act=ask.attributes() if may_release else {},
        )
    if len(shown) > MOST:
        yield Need("more-holds", "note", f"{len(shown) - MOST} more holds are older than a day.", link=None)


def _visible(user: Any, rows: list[Any]) -> Iterator[Any]:
    of_runs = [UUID(name) for name in runs_in([one.scope for one in rows])]
    visible = access.visible_ids(user, of_runs)
    scopes = {f"{RUNS}{pk}" for pk in visible}
    for one in rows:
        if not one.scope.startswith(RUNS) or one.scope in scopes:
            yield one


def _oldest_parked(viewer: Viewer, user: Any) -> Iterator[Need]:
    first = totals.oldest()
    if first is None or (database_now() - first).total_seconds() < PARKED_SECONDS:
        return
    yield Need(
        "oldest-parked",
        "note",
        "The oldest entry of the pause queue has waited for more than a quarter of an hour.",
        since=first,
        link=_page(user, "pause-queue"),
    )
