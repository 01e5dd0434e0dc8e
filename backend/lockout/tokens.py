"""Tokens of users, agents and ``/metrics`` in the header ``Authorization``, on every channel.

A token that was right recently, from the same address, is never refused: wrong ones from the same office do not
affect it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from backend.lockout import address, counter
from backend.lockout.guard import Guard

KNOWN_SECONDS = 24 * 3600
FRESH_SECONDS = 600.0
"""A process trusts a right token for this long without asking Redis."""
MOST_FRESH = 10_000


class Fresh:
    """The tokens that this process has recently seen to be right."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, known: object) -> bool:
        with self._lock:
            return self._until.get(str(known), 0.0) > time.monotonic()

    def add(self, known: str) -> None:
        with self._lock:
            self._until[known] = time.monotonic() + FRESH_SECONDS
            self._until.move_to_end(known)
            while len(self._until) > MOST_FRESH:
                self._until.popitem(last=False)

    def discard(self, known: str) -> None:
        with self._lock:
            self._until.pop(known, None)


fresh = Fresh()


def guard_of(request: HttpRequest) -> Guard | None:
    """Return the guard of the request's token; ``None`` without a token."""
    _, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    if not token:
        return None
    return Guard(address=address.of(request), account=token, channel=_channel(request.path), secret=True)


def refusal(request: HttpRequest, guard: Guard) -> HttpResponse | None:
    """Return the response to a caller over the limit, before the token is looked up; ``None`` if it is admitted."""
    if guard.known in fresh:
        return None
    wait = guard.wait()
    if not wait or counter.is_marked(guard.known):
        return None
    seconds = math.ceil(wait)
    message = f"Cannot sign in: too many wrong tokens came from this address. Try again in {seconds} s."
    body: dict[str, object] = {"code": "locked_out", "message": message}
    if guard.channel == "mcp":
        error = {"code": -32600, "message": f"{message} (locked_out)", "data": body}
        body = {"jsonrpc": "2.0", "id": None, "error": error}
    return JsonResponse(body, status=429, headers={"Retry-After": str(seconds), "Cache-Control": "no-store"})


def is_settled(request: HttpRequest, response: HttpResponse, guard: Guard) -> bool:
    """Return whether :func:`settle` would do nothing."""
    return response.status_code != 401 and (guard.known in fresh or _auth(request) is None)


def settle(request: HttpRequest, response: HttpResponse, guard: Guard) -> None:
    """Count the token if it was wrong, remember it if it was right."""
    if response.status_code == 401:
        fresh.discard(guard.known)
        counter.forget(guard.known)
        if not guard.admit():
            guard.failed()
    elif _auth(request) is not None and guard.known not in fresh:
        counter.mark(guard.known, KNOWN_SECONDS)
        fresh.add(guard.known)


def _auth(request: HttpRequest) -> object:
    """Return what authenticated the caller; sessions and public pages set nothing."""
    return getattr(request, "auth", None)


def _channel(path: str) -> str:
    if path == reverse("mcp"):
        return "mcp"
    if path == reverse("metrics"):
        return "metrics"
    return "agents" if path.startswith("/api/queue/jobs/") else "api"
