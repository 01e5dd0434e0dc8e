"""The address of a client, as far as it can be trusted."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "unknown"


def of(request: HttpRequest) -> str:
    """Return the address of the client; for IPv6 its /64 network, since a client usually owns all of that.

    ``X-Forwarded-For`` counts only as far as ``NUM_PROXIES`` trusted proxies wrote it; without any, it is ignored.
    """
    given = str(request.META.get("REMOTE_ADDR", "")).strip()
    proxies = int(settings.NUM_PROXIES)
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    if proxies > 0 and hops:
        given = hops[-min(proxies, len(hops))]
    if given.startswith("["):
        given = given[1:].partition("]")[0]
    elif given.count(":") == 1:  # some proxies add the port
        given = given.partition(":")[0]
    try:
        found = ip_address(given)
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
