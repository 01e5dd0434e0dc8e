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
from pause_manager.exposition import gauge, register, state

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
        answer = HttpResponse(f"Cannot show metrics: {_rule()}.\n", status=401)
        answer.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(state), content_type=content_type)


def _rule() -> str:
    """What a caller needs; where there is no token to send, who can make one is told."""
    if conf.settings().metrics_token:
        return "expected a bearer token, got none that is right"
    return "it comes through a proxy or from another network; set METRICS_TOKEN, or ask from METRICS_NETWORKS"


def may_read(request: HttpRequest) -> bool:
    """Whether the caller has the token, is signed in as staff, or (where there is no token) comes from a network."""
    options = conf.settings()
    if request.user.is_active and request.user.is_staff:
        return True
    if options.metrics_token:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {options.metrics_token}".encode())
    return _is_from(request, options.metrics_networks)


def _is_from(request: HttpRequest, networks: Iterable[str]) -> bool:
    """Whether the other end of the connection is in ``networks`` and is no proxy, behind which anybody may be."""
    if any(name in request.headers for name in PROXY_HEADERS):
        return False
    try:
        caller = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(caller in ip_network(network) for network in networks)
