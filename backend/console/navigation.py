"""The pages, topics and links of the engine in the console."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.urls import reverse

from automation import conf as automation_conf
from automation.contrib.credits import conf as credits_conf
from automation.errors import AutomationError
from automation.gate import installed_code
from automation.models.work import WorkSlice
from backend.console import access, palette
from backend.console.credits.page import PAGE as CREDITS
from backend.console.failures.page import PAGE as FAILURES
from backend.console.lanes.page import PAGE as LANES
from backend.console.overview.page import PAGE as OVERVIEW
from backend.console.run import card, throughput
from backend.console.runs.page import PAGE as RUNS
from backend.console.schedules.page import PAGE as SCHEDULES
from backend.console.sentences import PHRASES
from pause_manager import scopes
from pause_manager.console import links, pages, shell, views
from pause_manager.console import palette as console_palette
from pause_manager.console.audit import sentences
from pause_manager.console.links import Link
from pause_manager.console.live import listener, topics
from pause_manager.console.live.sse import Topic
from pause_manager.console.settings import facts
from pause_manager.holds.fleet_state import FLEET


def _run_of(user: Any, subject: str, name: str) -> tuple[UUID, bool]:
    """The run that a topic names, and whether the user sees one of that id."""
    try:
        run_id = UUID(subject)
    except ValueError:
        kind = name.partition("/")[0]
        raise topics.InvalidTopic(f"Cannot open a stream: expected {kind[:80]}/<id>, got: {name[:80]}") from None
    if not access.may_view(user):
        raise PermissionDenied
    return run_id, bool(access.visible_ids(user, [run_id]))


def _run_topic(user: Any, subject: str, query: dict[str, str], name: str) -> Topic:
    """``run/<id>``: the card of one run."""
    run_id, is_visible = _run_of(user, subject, name)
    if not is_visible:
        return Topic(name, ("gone", run_id), scopes.run(run_id), lambda: None)
    rights = card.Rights.of(user)
    return Topic(name, ("card", run_id, rights), scopes.run(run_id), lambda: card.update(run_id, rights))


def _throughput_topic(user: Any, subject: str, query: dict[str, str], name: str) -> Topic:
    """``run-throughput/<id>``: the chart of one run, drawn by the clock and not with each of its checkpoints."""
    run_id, is_visible = _run_of(user, subject, name)
    if not is_visible:
        return Topic(name, ("gone", run_id), scopes.run(run_id), lambda: None)
    key = ("throughput", run_id)
    return Topic(name, key, FLEET, lambda: throughput.update(run_id), throughput.REFRESH_SECONDS)


def _link(subject: str) -> Link | None:
    """The page of a run, lane or schedule, for its scope such as ``run:<id>``."""
    kind, name = scopes.parse(subject)
    if kind == "lane":
        return Link(f"lane {name}", f"{reverse('console:lanes')}?{urlencode({'lane': name})}")
    if kind == "schedule":
        return Link(f"schedule {name}", f"{reverse('console:schedules')}#schedule-{name}")
    if kind == "slice":
        return _link_of_slice(name)
    if kind != "run" or not scopes.runs_in([subject]):
        return None
    return Link(f"run {name[:8]}", reverse("console:run", args=[name]))


@lru_cache(maxsize=10_000)
def _link_of_slice(name: str) -> Link | None:
    """The run that a slice belongs to, which never changes; pages show the work of machines by slices."""
    if not (name.isascii() and name.isdecimal() and len(name) < 19):
        return None
    found = WorkSlice.objects.filter(pk=int(name)).values_list("stage_run__run_id", "stage_run__run__pipeline").first()
    if found is None:
        return Link(f"slice {name}")
    run_id, pipeline = found
    title = f"{installed_code.pipeline_title(pipeline)} {str(run_id)[:8]}"
    return Link(title, reverse("console:run", args=[run_id]))


def _admin(user: Any) -> Link | None:
    return Link("Admin", reverse("admin:index")) if user.is_staff else None


def _api_docs(user: Any) -> Link:
    return Link("API documentation", reverse("api-docs"))


pages.register(OVERVIEW, RUNS, LANES, SCHEDULES, FAILURES, CREDITS)
topics.register("run", _run_topic)
topics.register("run-throughput", _throughput_topic)
listener.listen_to(lambda: automation_conf.settings().progress_channel)
links.register(_link)
sentences.register(PHRASES)
facts.register("AUTOMATION", automation_conf.settings)
facts.register("CREDITS", credits_conf.settings)
shell.add_link(_admin)
shell.add_link(_api_docs)
for _part in ("run", "start", "start-preview", "run-by-name"):
    shell.belongs_to(_part, "runs")
for _part in ("schedule-new", "schedule-edit"):
    shell.belongs_to(_part, "schedules")
console_palette.register(palette.runs_found)
views.REFUSALS.append(AutomationError)
