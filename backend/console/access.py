"""Permissions of the console's pages, and the content security policies that say what they may load."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import permission_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.crypto import salted_hmac
from django_htmx.http import HttpResponseClientRedirect

from automation.models import AutomationRun
from automation.reports import payload_access

VIEW = "automation.view_automationrun"
OPERATE = "automation.operate_automationrun"
PAYLOADS = payload_access.VIEW

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FILE_POLICY = (
    "sandbox allow-same-origin allow-downloads; default-src 'none'; img-src 'self' data:; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""Files come from stages and may contain untrusted text: they may style themselves, but run no script, and neither
load nor submit anything elsewhere."""

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """Mark ``view`` as a page of the console, which loads nothing from other hosts and runs nothing inline."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return guarded


def for_viewers(view: View) -> View:
    """Restrict ``view`` to users who may view runs; redirect to sign-in if nobody is signed in."""
    allowed = permission_required(VIEW, raise_exception=True)(view)

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return allowed(request, *args, **kwargs)
        htmx = getattr(request, "htmx", None)
        if not htmx:
            return redirect_to_login(request.get_full_path())
        # The script would follow a redirect and put the sign-in form into the card.
        sign_in = redirect_to_login(htmx.current_url_abs_path or "/")
        return HttpResponseClientRedirect(sign_in.url)

    return page(guarded)


def for_payload_viewers(view: View) -> View:
    """Restrict ``view``, which shows the content of items, to users who may view payloads."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not request.user.has_perm(PAYLOADS):
            raise PermissionDenied
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


def session_of(request: HttpRequest) -> str:
    """Return a digest that the pages and the stream of one session share; it grants no access."""
    key = request.session.session_key
    return salted_hmac("backend.console.stream", key).hexdigest()[:16] if key else ""
