"""Who may open the console's pages, and what the pages may load."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.crypto import salted_hmac
from django.utils.http import url_has_allowed_host_and_scheme

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; worker-src 'self'"
)
"""Nothing from other hosts, and nothing inline."""

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """Mark ``view`` as a page of the console: it gets the content security policy."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return guarded


def refusing(sentence: str) -> Callable[[Callable[[Any], bool]], Callable[[Any], bool]]:
    """Have a condition say what is missing, on the page that tells that one may not see another."""

    def with_sentence(may_view: Callable[[Any], bool]) -> Callable[[Any], bool]:
        may_view.refusal = sentence  # type: ignore[attr-defined]
        return may_view

    return with_sentence


def missing(permission: str | Callable[[Any], bool]) -> str:
    """Return what who lacks ``permission`` is told: its name, as the admin has it; of a condition, its sentence."""
    if callable(permission):
        return str(getattr(permission, "refusal", "you do not have the permission"))
    app, _, codename = permission.partition(".")
    named = Permission.objects.filter(content_type__app_label=app, codename=codename).values_list("name", flat=True)
    return f"it takes the permission “{named.first() or codename}” ({permission})"


def restricted(may_view: Callable[[Any], bool]) -> Callable[[View], View]:
    """Restrict a view to users for whom ``may_view`` is true; redirect to sign-in if nobody is signed in."""

    def restrict(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            if not may_view(request.user):
                return render(
                    request, "console/refused.html", {"sentence": getattr(may_view, "refusal", "")}, status=403
                )
            return view(request, *args, **kwargs)

        return page(guarded)

    return restrict


def _to_sign_in(request: HttpRequest) -> HttpResponseBase:
    if request.headers.get("HX-Request") != "true":
        return redirect_to_login(request.get_full_path())
    # The script would follow a redirect and put the sign-in form into the page.
    current = request.headers.get("HX-Current-URL", "/")
    is_ours = url_has_allowed_host_and_scheme(current, {request.get_host()}, require_https=request.is_secure())
    path = "/" + current.split("/", 3)[3] if is_ours and current.count("/") > 2 else "/"
    return HttpResponse(headers={"HX-Redirect": redirect_to_login(path).url})


def is_signed_in(user: Any) -> bool:
    """Everybody who is signed in."""
    return bool(user.is_authenticated)


def session_of(request: HttpRequest) -> str:
    """Return a digest that the pages and the stream of one session share; it grants no access."""
    key = getattr(request, "session", None) and request.session.session_key
    return salted_hmac("backend.console.stream", key).hexdigest()[:16] if key else ""
