"""Who may see and do what in the console, and what its pages may load."""

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
"""Files are what stages wrote, perhaps from what strangers wrote: they may look as they like, run nothing and lead
nobody anywhere by themselves."""

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """A page of the console: nothing from elsewhere, nothing inline."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer = view(request, *args, **kwargs)
        answer.headers.setdefault("Content-Security-Policy", POLICY)
        return answer

    return guarded


def for_viewers(view: View) -> View:
    """A page for signed-in people who may view runs; others are sent to sign in."""
    allowed = permission_required(VIEW, raise_exception=True)(view)

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return allowed(request, *args, **kwargs)
        htmx = getattr(request, "htmx", None)
        if not htmx:
            return redirect_to_login(request.get_full_path())
        # A redirect would be followed by the script, which would put the sign-in form into the card.
        sign_in = redirect_to_login(htmx.current_url_abs_path or "/")
        return HttpResponseClientRedirect(sign_in.url)

    return page(guarded)


def for_payload_viewers(view: View) -> View:
    """What items contain: of those who view runs, for whoever may see that."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not request.user.has_perm(PAYLOADS):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def visible_ids(user: Any, run_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Those of ``run_ids`` that there are and that ``user`` may see."""
    wanted = list(run_ids)
    rows = AutomationRun.objects.visible_to(user).filter(pk__in=wanted) if wanted else AutomationRun.objects.none()
    return frozenset(rows.values_list("pk", flat=True))


def visible_run(request: HttpRequest, run_id: UUID) -> AutomationRun:
    """The run, or 404: other accounts' runs do not exist here."""
    runs = AutomationRun.objects.visible_to(request.user).with_leases().select_related("site")
    run: AutomationRun = get_object_or_404(runs, pk=run_id)
    return run


def session_of(request: HttpRequest) -> str:
    """What the pages and the stream of one sign-in have in common, and no other's; it opens nothing."""
    key = request.session.session_key
    return salted_hmac("backend.console.stream", key).hexdigest()[:16] if key else ""
