"""Runs in the palette: by the first digits of their id, their pipeline or their site, as in the list of runs."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse

from automation.gate import installed_code
from automation.models import AutomationRun
from automation.pipeline import all_pipelines
from automation.reports import status
from backend.console import access
from backend.console.runs import filters
from backend.console.runs.audience import Audience
from pause_manager.console.palette import MOST_HITS, Ask, Hit


def runs_found(request: HttpRequest, text: str) -> list[Hit]:
    """The newest runs that match, and what may be done with the first that is unfinished."""
    if not text or not access.may_view(request.user):
        return []
    found = _matching(Audience.of(request.user), text)
    hits = [
        Hit(
            f"{installed_code.pipeline_title(run.pipeline)} {str(run.pk)[:8]}",
            "run",
            reverse("console:run", args=[run.pk]),
            f"{status.of(run, has_reasons=False).replace('_', ' ')}, {run.site.name}",
        )
        for run in found
    ]
    first = next((run for run in found if run.finished_at is None), None)
    return hits + ([_verb(first)] if first and request.user.has_perm(access.OPERATE) else [])


def _matching(audience: Audience, text: str) -> list[AutomationRun]:
    """The newest runs of each thing that the text may mean: one quick look for each."""
    titles = {pipeline.slug: installed_code.pipeline_title(pipeline.slug) for pipeline in all_pipelines()}
    runs = audience.runs().with_leases().select_related("site").order_by("-created_at", "-id")
    meanings = filters.matching(text, audience, titles)
    found = {run.pk: run for meaning in meanings for run in runs.filter(meaning)[:MOST_HITS]}
    return sorted(found.values(), key=lambda run: (run.created_at, run.pk), reverse=True)[:MOST_HITS]


def _verb(run: AutomationRun) -> Hit:
    verb, word = ("resume", "Resume") if run.paused_at else ("pause", "Pause")
    name = f"{installed_code.pipeline_title(run.pipeline)} {str(run.pk)[:8]}"
    url = reverse("console:runs")
    ask = Ask(url, f"{word} {name}?", word, {"do": verb, "run": str(run.pk)}, reason="optional")
    return Hit(f"{word} {name}", "action", ask=ask.attributes())
