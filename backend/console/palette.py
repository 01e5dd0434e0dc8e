"""Runs in the palette: by the first digits of their id, their pipeline or their site."""

from __future__ import annotations

import re

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from automation.gate import installed_code
from automation.models import AutomationRun
from automation.reports import status
from backend.console import access
from pause_manager.console.palette import MOST_HITS, Ask, Hit

_ID = re.compile(r"[0-9a-f-]{2,36}")


def runs_found(request: HttpRequest, text: str) -> list[Hit]:
    """The newest runs that match, and what may be done with the first that is unfinished."""
    if not text or not access.may_view(request.user):
        return []
    visible = AutomationRun.objects.visible_to(request.user).with_leases().select_related("site")
    found = list(_matching(visible, text).order_by("-created_at", "-id")[:MOST_HITS])
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


def _matching(runs: QuerySet[AutomationRun], text: str) -> QuerySet[AutomationRun]:
    if _ID.fullmatch(text):
        digits = text.replace("-", "")
        low, high = digits.ljust(32, "0"), digits.ljust(32, "f")
        return runs.filter(pk__gte=low, pk__lte=high)
    return runs.filter(Q(pipeline__startswith=text) | Q(site__name__istartswith=text))


def _verb(run: AutomationRun) -> Hit:
    verb, word = ("resume", "Resume") if run.paused_at else ("pause", "Pause")
    name = f"{installed_code.pipeline_title(run.pipeline)} {str(run.pk)[:8]}"
    url = reverse("console:runs")
    ask = Ask(url, f"{word} {name}?", word, {"do": verb, "run": str(run.pk)}, reason="optional")
    return Hit(f"{word} {name}", "action", ask=ask.attributes())
