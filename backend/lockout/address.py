"""Where a request comes from, as far as it can be believed."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "unknown"


def of(request: HttpRequest) -> str:
    """The address of the client, a /64 network for IPv6, since a client has one of those.

    ``X-Forwarded-For`` counts only as far as ``NUM_PROXIES`` trusted proxies have written it: with none, not at all.
    """
    given = str(request.META.get("REMOTE_ADDR", "")).strip()
    proxies = int(settings.NUM_PROXIES)
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    if proxies > 0 and hops:
        given = hops[-min(proxies, len(hops))]
    if given.startswith("["):
        given = given[1:].partition("]")[0]
    elif given.count(":") == 1:  # with a port, as some proxies write it
        given = given.partition(":")[0]
    try:
        found = ip_address(given)
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
