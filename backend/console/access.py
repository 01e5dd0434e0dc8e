"""Permissions of the pages of runs, and what the files of runs may load."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404

from automation.models import AutomationRun
from automation.reports import payload_access
from pause_manager.console.access import refusing, restricted

VIEW = "automation.view_automationrun"
OPERATE = "automation.operate_automationrun"
PAYLOADS = payload_access.VIEW

FILE_POLICY = (
    "sandbox allow-same-origin allow-downloads; default-src 'none'; img-src 'self' data:; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""Files come from stages and may contain untrusted text: they may style themselves, but run no script, and neither
load nor submit anything elsewhere."""

View = Callable[..., HttpResponseBase]


@refusing("To see this page, you need the permission to view runs.")
def may_view(user: Any) -> bool:
    """Whether ``user`` may view runs: those of their accounts."""
    return bool(user.has_perm(VIEW))


for_viewers = restricted(may_view)
"""Restrict a view to users who may view runs; redirect to sign-in if nobody is signed in."""


@refusing("You can view runs. To start or change them, you need the permission to operate runs.")
def may_operate(user: Any) -> bool:
    """Whether ``user`` may start and change runs: those of their accounts."""
    return bool(user.has_perm(OPERATE))


for_operators = restricted(may_operate)
"""Restrict a view to users who may operate runs."""


def for_payload_viewers(view: View) -> View:
    """Restrict ``view``, which shows the content of items, to users who may view payloads."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not request.user.has_perm(PAYLOADS):
            raise PermissionDenied("To see the content of items, you need the permission to view payloads.")
        return view(request, *args, **kwargs)

    return guarded


def visible_ids(user: Any, run_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Return those of ``run_ids`` that exist and that ``user`` may see."""
    wanted = list(run_ids)
    rows = AutomationRun.objects.visible_to(user).filter(pk__in=wanted) if wanted else AutomationRun.objects.none()
    return frozenset(rows.values_list("pk", flat=True))


def visible_run(request: HttpRequest, run_id: UUID) -> AutomationRun:
    """Return the run, or raise 404, also for the runs of other accounts."""
    runs = AutomationRun.objects.visible_to(request.user).with_leases().select_related("site")
    run: AutomationRun = get_object_or_404(runs, pk=run_id)
    return run
