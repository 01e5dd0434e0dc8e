"""Request limits per caller, counted in Redis across all web processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import throttling

from backend.lockout import address, counter

if TYPE_CHECKING:  # these import this module, which the settings name
    from rest_framework.request import Request
    from rest_framework.views import APIView


class _SharedRate(throttling.SimpleRateThrottle):
    """A limit per time window, which begins with the first request."""

    num_requests: int | None
    duration: int | None

    def allow_request(self, request: Request, view: APIView) -> bool:
        key = self.get_cache_key(request, view)
        if self.rate is None or key is None:
            return True
        assert self.num_requests is not None
        assert self.duration is not None
        self._wait = counter.take(counter.Count(key, self.num_requests, int(self.duration))).wait
        return not self._wait

    def wait(self) -> float:
        return self._wait

    def get_ident(self, request: Any) -> str:
        return address.of(request)


class AnonRate(_SharedRate, throttling.AnonRateThrottle):
    """Per address, for callers who are not signed in."""


class UserRate(_SharedRate, throttling.UserRateThrottle):
    """Per user or agent; per address for callers who are not signed in."""
