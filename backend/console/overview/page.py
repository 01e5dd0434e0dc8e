"""The overview: one verdict, what needs a person, what waits, how fast it goes, how full the machines are."""

from __future__ import annotations

from datetime import datetime

from automation.worker.stage_loop import FAILED, PROCESSED
from backend.console import access
from backend.console.overview import actions, active, charts, machines, needs
from pause_manager import health
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.viewer import Viewer
from pause_manager.health import Verdict
from pause_manager.health.verdict import HELD, NO, UNKNOWN
from pause_manager.models.clock import database_now
from pause_manager.models.fleet import OPERATE as OPERATE_FLEET
from pause_manager.observability import counter_history, waiting
from pause_manager.observability.metrics import Counter

REASONS = {
    "fleet": "the fleet's pause",
    "freeze": "a frozen lane",
    "dependency": "another run",
    "operator": "a person's release",
    "window": "a pause window's end",
    "lane": "a place in its lane",
    "node": "a held node",
    "budget": "credits",
    "needs_input": "an answer",
    "throttled": "a resource",
    "resource": "a resource",
    "capacity": "room on a machine",
    "code_missing": "a release with its code",
    "files_not_shared": "shared files",
    "no_worker": "a worker",
    "no_free_worker": "a free worker",
    "no_agent": "an agent",
    "delay": "the delay between batches",
    "not_before": "its time",
    "waits": "an item that a provider postponed",
    "failing": "loops that fail",
    "loses_workers": "an item that loses its workers",
    "unreadable": "what cannot be read",
    "starting": "its start, within seconds",
}
"""What waits for a reason of the gate, in words; another is written as it is."""


def context(viewer: Viewer, query: Query) -> Context:
    """Return the context of the page. A constant number of statements, each by an index or of few rows."""
    user = viewer.user
    may_operate = viewer.has_perm(access.OPERATE)
    if not active.has_any(user):
        has_site = actions.first_site(user) is not None
        return {"is_new": True, "may_operate": may_operate, "has_site": has_site}
    verdict = health.judge()
    done = _hour(PROCESSED)
    throughput = charts.columns(done, _hour(FAILED))
    return {
        "is_new": False,
        "verdict": verdict,
        "tone": _tone(verdict),
        "lead": _lead(verdict),
        "with_details": viewer.has_perm(OPERATE_FLEET),
        "needs": needs.of(viewer, user, verdict),
        "waits": _waits(),
        "throughput": throughput,
        "machines": machines.shown(),
        "runs": active.shown(user),
        "running": active.count(user),
        "most_counted": active.COUNTED,
        "may_operate": may_operate,
    }


def _tone(verdict: Verdict) -> str:
    answers = {one.answer for one in verdict.answers}
    if NO in answers:
        return "bad"
    if HELD in answers:
        return "held"
    return "unknown" if verdict.answers[0].answer == UNKNOWN else "good"


def _lead(verdict: Verdict) -> str:
    """The most important fact behind the verdict: what is wrong, else what is held."""
    findings = [one for answer in verdict.answers for one in answer.findings]
    for level in ("problem", "held"):
        for one in findings:
            if one.level == level:
                return one.sentence
    return ""


def _hour(counter: Counter) -> list[tuple[datetime, float | None]]:
    found = counter_history.increases(counter, now=database_now(), minutes=charts.MINUTES)
    return [(one.minute, one.amount) for one in found]


def _waits() -> charts.Area:
    minutes = charts.minutes_until(database_now())
    samples: dict[tuple[datetime, str], int] = {}
    seen = set()
    for one in waiting.history(minutes[0]):
        if one.work == waiting.ALL:
            seen.add(one.minute)
            continue
        key = (one.minute, REASONS.get(one.reason, one.reason.replace("_", " ")))
        samples[key] = samples.get(key, 0) + one.count
    return charts.area(samples, seen, minutes)


PAGE = Page(
    name="overview",
    path="",
    title="Overview",
    template="console/overview/content.html",
    context=context,
    may_view=access.may_view,
    icon="overview",
    order=100,
    key="o",
    refresh_seconds=5.0,
    styles=("console/overview.css",),
    actions={
        "release": Action(actions.release, actions.may_release),
        "unfreeze": Action(actions.unfreeze, access.OPERATE),
        "drill": Action(actions.drill, access.OPERATE),
    },
)
