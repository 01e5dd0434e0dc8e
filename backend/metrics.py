"""``/metrics``: who may read it, and the gauges of the composition root: the age of the last heartbeats."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder

from backend import heartbeats
from pause_manager import conf
from pause_manager.observability.exposition import gauge, register, state

METRICS_TOKEN = "metrics_token"
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


@register("beat", reads_database=False)
def _heartbeats() -> Iterable[Metric]:
    beat = gauge("slackwater_beat_age_seconds", "Seconds since beat last reported; absent if it has not.")
    control = gauge(
        "slackwater_control_age_seconds", "Seconds since a control worker last reconciled; absent if none has."
    )
    for metric, who in ((beat, heartbeats.BEAT), (control, heartbeats.CONTROL)):
        if (age := heartbeats.age(who)) is not None:
            metric.add_metric([], max(0.0, age))
    return beat, control


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Respond with all metrics in the format that the caller accepts (Prometheus or OpenMetrics text)."""
    if not may_read(request):
        response = HttpResponse(_refusal(), content_type="text/plain; charset=utf-8", status=401)
        response.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return response
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(state), content_type=content_type)


def may_read(request: HttpRequest) -> bool:
    """Return whether the caller has the token, is signed in as staff or, without a token, is in a trusted network."""
    options = conf.settings()
    if request.user.is_active and request.user.is_staff:
        return True
    if options.metrics_token:
        given = request.headers.get("Authorization", "")
        is_right = hmac.compare_digest(given.encode(), f"Bearer {options.metrics_token}".encode())
        if is_right:
            request.auth = METRICS_TOKEN  # type: ignore[attr-defined]  # so that `lockout` knows the token was right
        return is_right
    return _is_from(request, options.metrics_networks)


def _refusal() -> str:
    """The sentence for a refused caller: what is expected, and which setting is missing."""
    if conf.settings().metrics_token:
        return "Cannot show metrics: expected a valid bearer token.\n"
    networks = ", ".join(conf.settings().metrics_networks) or "none"
    return (
        "Cannot show metrics: METRICS_TOKEN is not set, and the request does not come directly from METRICS_NETWORKS "
        f"({networks}). Set METRICS_TOKEN and send it as a bearer token, or connect from these without a proxy.\n"
    )


def _is_from(request: HttpRequest, networks: Iterable[str]) -> bool:
    """Return whether the peer is in ``networks`` and is not a proxy, which could forward for anyone."""
    if any(name in request.headers for name in PROXY_HEADERS):
        return False
    try:
        caller = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(caller in ip_network(network) for network in networks)
