"""``/metrics``: who may read it, and the gauges of the composition root: how long ago beat and control gave a sign."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder

from backend import ticks
from pause_manager import conf
from pause_manager.observability.exposition import gauge, register, state

METRICS_TOKEN = "metrics_token"
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


@register("beat", reads_database=False)
def _signs_of_life() -> Iterable[Metric]:
    beat = gauge("slackwater_beat_age_seconds", "Since beat last ticked; absent if no tick is known.")
    control = gauge("slackwater_control_age_seconds", "Since a control worker reconciled; absent if none is known.")
    for metric, who in ((beat, ticks.BEAT), (control, ticks.CONTROL)):
        if (age := ticks.age(who)) is not None:
            metric.add_metric([], max(0.0, age))
    return beat, control


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything there is to tell, in the format that the caller asks for (Prometheus' or OpenMetrics' text)."""
    if not may_read(request):
        answer = HttpResponse(_refusal(), content_type="text/plain; charset=utf-8", status=401)
        answer.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(state), content_type=content_type)


def may_read(request: HttpRequest) -> bool:
    """Whether the caller has the token, is signed in as staff, or (where there is no token) comes from a network."""
    options = conf.settings()
    if request.user.is_active and request.user.is_staff:
        return True
    if options.metrics_token:
        given = request.headers.get("Authorization", "")
        is_right = hmac.compare_digest(given.encode(), f"Bearer {options.metrics_token}".encode())
        if is_right:
            request.auth = METRICS_TOKEN  # type: ignore[attr-defined]  # what `lockout` remembers it by
        return is_right
    return _is_from(request, options.metrics_networks)


def _refusal() -> str:
    """What to do about it, where nobody has set a token as well."""
    if conf.settings().metrics_token:
        return "Cannot show metrics: expected a bearer token, got none that is right.\n"
    networks = ", ".join(conf.settings().metrics_networks) or "none"
    return (
        "Cannot show metrics: no METRICS_TOKEN is set, and this does not come straight from METRICS_NETWORKS "
        f"({networks}). Set METRICS_TOKEN and send it as a bearer token, or ask from one of these without a proxy.\n"
    )


def _is_from(request: HttpRequest, networks: Iterable[str]) -> bool:
    """Whether the other end of the connection is in ``networks`` and is no proxy, behind which anybody may be."""
    if any(name in request.headers for name in PROXY_HEADERS):
        return False
    try:
        caller = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(caller in ip_network(network) for network in networks)
