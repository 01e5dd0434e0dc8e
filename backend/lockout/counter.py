"""Counts within a time window, shared by all processes in Redis; without Redis, counted by each process."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import redis
from django.conf import settings

from pause_manager.messaging import redis_clients

logger = logging.getLogger("backend.lockout")

MOST_LOCAL = 10_000
"""Counts that a process keeps while Redis is unavailable; beyond that, the oldest is dropped."""
AWAY_SECONDS = 2.0
"""After an error Redis is not used for this long, so that not every request waits for the time-out."""

T = TypeVar("T")


@dataclass(frozen=True)
class Count:
    """A counter: at most ``most`` within ``seconds`` under ``key``."""

    key: str
    most: int
    seconds: int


@dataclass(frozen=True)
class Taken:
    """``wait`` is the seconds to wait, 0 if all was counted; ``counts`` are the new counts, in order."""

    wait: float
    counts: tuple[int, ...]


# Counts under every key, or under none if one is full. A count that becomes full stays so for a whole window.
_TAKE = """
local wait, counts = 0, {}
for i, key in ipairs(KEYS) do
    counts[i] = tonumber(redis.call('GET', key) or '0')
    if counts[i] >= tonumber(ARGV[2 * i - 1]) then
        wait = math.max(wait, redis.call('PTTL', key), 1)
    end
end
if wait == 0 and ARGV[#ARGV] == '1' then
    for i, key in ipairs(KEYS) do
        counts[i] = redis.call('INCR', key)
        if counts[i] == 1 or counts[i] >= tonumber(ARGV[2 * i - 1]) then
            redis.call('PEXPIRE', key, ARGV[2 * i])
        end
    end
end
table.insert(counts, 1, wait)
return counts
"""
_GIVE_BACK = """
for _, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or '0') > 0 then redis.call('DECR', key) end
end
"""


class _Local:
    """Counters in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def take(self, counts: Sequence[Count], is_counted: bool) -> Taken:
        with self._lock:
            now = time.monotonic()
            counted = [self._of(count.key, now) for count in counts]
            full = [ends - now for count, (have, ends) in zip(counts, counted, strict=True) if have >= count.most]
            if full or not is_counted:
                return Taken(max(full, default=0.0), tuple(have for have, _ in counted))
            for count, (have, ends) in zip(counts, counted, strict=True):
                starts = have == 0 or have + 1 >= count.most
                self._found[count.key] = (have + 1, now + count.seconds if starts else ends)
                self._found.move_to_end(count.key)
            while len(self._found) > MOST_LOCAL:
                self._found.popitem(last=False)
            return Taken(0.0, tuple(have + 1 for have, _ in counted))

    def give_back(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                have, ends = self._of(key, time.monotonic())
                if have:
                    self._found[key] = (have - 1, ends)

    def forget(self, key: str) -> None:
        with self._lock:
            self._found.pop(key, None)

    def _of(self, key: str, now: float) -> tuple[int, float]:
        have, ends = self._found.get(key, (0, 0.0))
        return (have, ends) if ends > now else (0, 0.0)


_local = _Local()
_away_until = 0.0


def take(*counts: Count) -> Taken:
    """Count one more under each, unless one of them is full. Never raises."""
    return _take(counts, is_counted=True)


def look(*counts: Count) -> Taken:
    """Return how long to wait, without counting."""
    return _take(counts, is_counted=False)


def give_back(*keys: str) -> None:
    """Decrease each count by one."""
    _asked(lambda: _script(_GIVE_BACK)(keys=_named(keys)), lambda: _local.give_back(keys))


def forget(key: str) -> None:
    """Reset the count."""
    _asked(lambda: redis_clients.client().delete(*_named([key])), lambda: _local.forget(key))


def mark(key: str, seconds: int) -> None:
    """Remember ``key`` for ``seconds``; does nothing without Redis."""
    _asked(lambda: redis_clients.client().set(_named([key])[0], 1, ex=seconds), lambda: None)


def is_marked(key: str) -> bool:
    """Return whether ``key`` is remembered."""
    return _asked(lambda: bool(redis_clients.client().exists(_named([key])[0])), lambda: False)


def _take(counts: Sequence[Count], *, is_counted: bool) -> Taken:
    def shared() -> Taken:
        limits = [value for count in counts for value in (count.most, count.seconds * 1000)]
        wait, *have = _script(_TAKE)(keys=_named([count.key for count in counts]), args=[*limits, int(is_counted)])
        return Taken(wait / 1000, tuple(have))

    return _asked(shared, lambda: _local.take(counts, is_counted))


def _asked(shared: Callable[[], T], local: Callable[[], T]) -> T:
    """Return the result of ``shared``, or of ``local`` if Redis is unavailable."""
    global _away_until
    if time.monotonic() < _away_until:
        return local()
    try:
        return shared()
    except (redis.RedisError, OSError) as error:
        logger.warning("Redis is unavailable (%s): each web process counts for itself.", error)
        _away_until = time.monotonic() + AWAY_SECONDS
        return local()


def _named(keys: Sequence[str]) -> list[str]:
    return [f"{settings.REDIS_PREFIX}count:{key}" for key in keys]


def _script(text: str) -> Callable[..., Any]:
    return _registered(redis_clients.client(), text)


@lru_cache(maxsize=4)
def _registered(client: redis.Redis, text: str) -> Callable[..., Any]:
    return client.register_script(text)
