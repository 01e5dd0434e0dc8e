"""One OpenAI-compatible HTTP endpoint: asks, and tells patience from failure."""

from __future__ import annotations

import weakref
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from automation.contrib.content.providers.base import ProviderError
from automation.pipeline import TryLater

BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
PATIENCE_SECONDS = 10.0
MOST_PATIENCE_SECONDS = 3_600.0


class Endpoint:
    """``url`` is the API's base, e.g. ``https://api.example.com/v1``."""

    def __init__(self, url: str, key: str, *, timeout_seconds: float) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._client = httpx.Client(headers=headers, timeout=timeout_seconds)
        weakref.finalize(self, self._client.close)  # stages have no hook for the end of a loop

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object answered. ``TryLater`` on 429 and 503, ``ProviderError`` on any other failure."""
        url = f"{self._url}/{path}"
        try:
            response = self._client.post(url, json=body)
        except httpx.TimeoutException:
            raise ProviderError(f"Cannot ask {url}: it did not answer within {self._timeout_seconds:g} s.") from None
        except httpx.HTTPError as error:
            raise ProviderError(f"Cannot ask {url}: it is unreachable ({error}).") from None
        if response.status_code in BUSY:
            seconds = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
            raise TryLater(seconds, f"{url} answered {response.status_code} and asks to wait {seconds:g} s")
        if response.is_error:
            raise ProviderError(f"Cannot ask {url}: it answered {response.status_code}: {response.text[:200]!r}.")
        try:
            answer = response.json()
        except ValueError:
            raise ProviderError(f"Cannot ask {url}: it answered no JSON: {response.text[:200]!r}.") from None
        if not isinstance(answer, dict):
            raise ProviderError(f"Cannot ask {url}: it answered no JSON object: {response.text[:200]!r}.")
        return answer


def retry_after(value: str | None, now: datetime) -> float:
    """Seconds that a ``Retry-After`` header asks for: a number or an HTTP date (RFC 9110, 10.2.3); 10 s without one."""
    if value is None:
        return PATIENCE_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return PATIENCE_SECONDS
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    if seconds != seconds:
        return PATIENCE_SECONDS
    return min(max(0.0, seconds), MOST_PATIENCE_SECONDS)
