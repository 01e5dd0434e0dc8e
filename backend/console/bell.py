"""One listener a process for both doorbells, fanning out to the open pages: they cost neither connections nor polls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterator

import redis

from automation import conf as automation_conf
from pause_manager import conf
from pause_manager.messaging.redis_clients import AsyncEar

logger = logging.getLogger("backend.console.bell")

LOOK_SECONDS_WITHOUT_REDIS = 2.0


class Listener:
    """One open page. ``scope`` is what it shows, or ``None`` for everything."""

    def __init__(self, scope: str | None) -> None:
        self.scope = scope
        self.rung_at = 0.0
        self._rung = asyncio.Event()

    def ring(self, at: float) -> None:
        self.rung_at = at
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """Whether a ring was heard since the last call, or comes within ``seconds``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), seconds)
        heard = self._rung.is_set()
        self._rung.clear()
        return heard


class Bell:
    """Hears Redis while at least one page listens. Redis away: every page is rung every two seconds instead."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def listen(self, scope: str | None) -> Iterator[Listener]:
        """Hear changes of ``scope`` (all if ``None``) inside the ``with``."""
        listener = Listener(scope)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="console-bell")
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        is_away = False
        while True:
            try:
                await self._hear()
            except (redis.RedisError, OSError) as error:
                if not is_away:
                    logger.warning("Redis is away (%s): the pages look for themselves.", error)
                is_away = True
            except Exception:
                logger.exception("The console's listener failed and goes on.")
            self._ring_all()
            await asyncio.sleep(LOOK_SECONDS_WITHOUT_REDIS)

    async def _hear(self) -> None:
        settings = conf.settings()
        channels = (settings.channel, automation_conf.settings().progress_channel)
        async with AsyncEar(settings.redis_url, *channels) as ear:
            while True:
                message = await ear.get()
                if message is not None and message["type"] == "subscribe":
                    self._ring_all()  # what changed before was not heard
                elif message is not None and message["type"] == "message":
                    self._heard(message["data"])

    def _heard(self, data: bytes) -> None:
        scopes = set(json.loads(data))
        # A hold on the fleet, a queue or a pipeline covers runs that it does not name.
        is_wide = any(not scope.startswith("run:") for scope in scopes)
        now = time.monotonic()
        for listener in self._listeners:
            if is_wide or listener.scope is None or listener.scope in scopes:
                listener.ring(now)

    def _ring_all(self) -> None:
        now = time.monotonic()
        for listener in self._listeners:
            listener.ring(now)


bell = Bell()
"""The bell of this process."""
