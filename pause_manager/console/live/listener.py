"""One Redis listener per process, which notifies the open pages: a page needs neither a connection nor a poll."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator

import redis

from pause_manager import conf
from pause_manager.messaging.redis_clients import AsyncSubscriber
from pause_manager.scopes import is_run

logger = logging.getLogger("pause_manager.console.listener")

NOTIFY_SECONDS_WITHOUT_REDIS = 2.0

CHANGES = "changes"
"""The scope of a subscription to all changes of control, such as holds, and not to progress."""

_channels: list[Callable[[], str]] = [lambda: conf.settings().channel]


def listen_to(channel: Callable[[], str]) -> None:
    """Listen to a channel of another app as well: its messages are JSON lists of the scopes that changed."""
    _channels.append(channel)


class Subscription:
    """The changes of ``scope`` for one open page; of everything if ``None``."""

    def __init__(self, scope: str | None) -> None:
        self.scope = scope
        self.notified_at = 0.0
        self._notified = asyncio.Event()

    def notify(self, at: float) -> None:
        self.notified_at = at
        self._notified.set()

    async def wait(self, seconds: float) -> bool:
        """Return whether a notification has come since the last call, or comes within ``seconds``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._notified.wait(), seconds)
        is_notified = self._notified.is_set()
        self._notified.clear()
        return is_notified


class Listener:
    """Listens to Redis while at least one page is open. Without Redis it notifies every page each two seconds."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def subscribe(self, scope: str | None) -> Iterator[Subscription]:
        """Subscribe to the changes of ``scope`` (all if ``None``) inside the ``with``."""
        subscription = Subscription(scope)
        self._subscriptions.add(subscription)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="console-listener")
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        is_away = False
        while True:
            try:
                await self._listen()
            except (redis.RedisError, OSError) as error:
                if not is_away:
                    logger.warning(
                        "Redis is unavailable (%s): pages update every %.0f s.", error, NOTIFY_SECONDS_WITHOUT_REDIS
                    )
                is_away = True
            except Exception:
                logger.exception("The console's listener failed; it continues.")
            self._notify_all()
            await asyncio.sleep(NOTIFY_SECONDS_WITHOUT_REDIS)

    async def _listen(self) -> None:
        channels = dict.fromkeys(channel() for channel in _channels)
        async with AsyncSubscriber(conf.settings().redis_url, *channels) as ear:
            while True:
                message = await ear.get()
                if message is not None and message["type"] == "subscribe":
                    self._notify_all()  # earlier changes were missed
                elif message is not None and message["type"] == "message":
                    is_change = _text(message["channel"]) == conf.settings().channel
                    self._notify(message["data"], is_change=is_change)

    def _notify(self, data: bytes, *, is_change: bool) -> None:
        scopes = set(json.loads(data))
        # A hold on the fleet, a queue or a pipeline covers runs that it does not name.
        is_wide = any(not is_run(scope) for scope in scopes)
        now = time.monotonic()
        for subscription in self._subscriptions:
            wanted = subscription.scope
            if is_wide or wanted is None or wanted in scopes or (is_change and wanted == CHANGES):
                subscription.notify(now)

    def _notify_all(self) -> None:
        now = time.monotonic()
        for subscription in self._subscriptions:
            subscription.notify(now)


def _text(channel: bytes | str) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel


listener = Listener()
"""The listener of this process."""
