"""Every Redis client of ours: whatever the project's settings and the URL say, none of its sockets waits forever."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from pause_manager import conf

LISTENING_SECONDS = 1.0
"""Longest wait for a part of an answer, and for the answer to a ping, of who listens."""
_BOUNDED = frozenset({"socket_timeout", "socket_connect_timeout", "retry_on_timeout", "health_check_interval"})


def bounded_client(url: str, seconds: float) -> redis.Redis:
    """A client that gives up after ``seconds``. A connection that was lost meanwhile is replaced once."""
    return redis.Redis.from_url(
        _without_time_outs(url),
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def client() -> redis.Redis:
    """The client of this process for the doorbell and for samples: who asks must not wait for Redis."""
    settings = conf.settings()
    return _client(settings.redis_url, settings.redis_timeout_seconds)


@lru_cache(maxsize=1)
def _client(url: str, seconds: float) -> redis.Redis:
    return bounded_client(url, seconds)


def _without_time_outs(url: str) -> str:
    """The options of a URL win over arguments: those that are ours to choose are taken out."""
    address, mark, options = url.partition("?")
    left = "&".join(option for option in options.split("&") if option.partition("=")[0] not in _BOUNDED)
    return address + mark + left


class _Pings:
    """When to ask a server whether it hangs, of which who only listens never learns, and whether it has answered."""

    def __init__(self) -> None:
        self._next = 0.0
        self._asked_at: float | None = None

    def is_due(self) -> bool:
        """Whether to ask now. Raises ``redis.TimeoutError`` if the last ping was not answered in time."""
        now = time.monotonic()
        if self._asked_at is not None and now > self._asked_at + LISTENING_SECONDS:
            raise redis.TimeoutError("Redis takes what it is sent and does not answer")
        if self._asked_at is not None or now < self._next:
            return False
        self._next, self._asked_at = now + LISTENING_SECONDS, now
        return True

    def without_pongs(self, message: dict[str, Any] | None) -> dict[str, Any] | None:
        """``message``, if it is not the answer."""
        if message is not None and message["type"] == "pong":
            self._asked_at = None
            return None
        return message


_LISTENING: dict[str, Any] = {"socket_timeout": LISTENING_SECONDS, "socket_connect_timeout": LISTENING_SECONDS}
_PING = "slackwater"


class Subscriber:
    """Hears channels, for as long as it takes. A server that hangs is noticed as one that is gone is.

    ``get`` raises ``redis.RedisError`` in both cases; then make another.
    """

    def __init__(self, url: str, *channels: str) -> None:
        self._client = redis.Redis.from_url(_without_time_outs(url), retry=Retry(NoBackoff(), 0), **_LISTENING)
        self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._pings = _Pings()
        self._channels = channels

    def __enter__(self) -> Subscriber:
        self._pubsub.subscribe(*self._channels)
        return self

    def __exit__(self, *error: object) -> None:
        self._pubsub.close()
        self._client.close()

    @property
    def socket(self) -> Any:
        """What to wait at for the next message, among other things; ``None`` if there is none."""
        at = getattr(self._pubsub.connection, "_sock", None)
        return at if at is not None and at.fileno() >= 0 else None

    def get(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or ``None`` after ``seconds`` (at most one) without any."""
        if self._pings.is_due():
            self._pubsub.ping(_PING)
        return self._pings.without_pongs(
            self._pubsub.get_message(timeout=min(max(seconds, 0.0), LISTENING_SECONDS)),
        )


class AsyncSubscriber:
    """The same for a coroutine."""

    def __init__(self, url: str, *channels: str) -> None:
        self._client = redis.asyncio.Redis.from_url(_without_time_outs(url), **_LISTENING)
        self._pubsub: Any = self._client.pubsub()
        self._pings = _Pings()
        self._channels = channels

    async def __aenter__(self) -> AsyncSubscriber:
        await self._pubsub.subscribe(*self._channels)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._pubsub.aclose()
        await self._client.aclose()

    async def get(self) -> dict[str, Any] | None:
        """The next message, or ``None`` after a second without any."""
        if self._pings.is_due():
            await self._pubsub.ping(_PING)
        return self._pings.without_pongs(await self._pubsub.get_message(timeout=LISTENING_SECONDS))
