"""One server-sent stream for all open pages of a browser, with an update for each page whose content has changed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import Error as DatabaseError
from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse

from pause_manager import conf, database
from pause_manager.console.live import shutdown
from pause_manager.console.live.listener import listener

logger = logging.getLogger("pause_manager.console.live")

RENDER_THREADS = 4
"""Concurrent renders per process, and so the database connections of all its open pages together."""
MIN_UPDATE_SECONDS = 0.3
"""The shortest time between two updates of one page."""
RECHECK_SECONDS = 1.2
"""After a notification: workers notify once per second, so a change just after one comes without its own."""
KEEP_ALIVE_SECONDS = 15.0
STREAM_SECONDS = 600.0
"""The longest life of a stream; then the browser reconnects."""
CACHED_UPDATES = 500

MayStillRead = Callable[[Executor], Awaitable[bool]]
"""Whether the reader of a stream may still read; what it must ask the database, it asks in the executor."""

_pool = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="console-render")


@dataclass(frozen=True)
class Update:
    """An update of a page: ``html`` to swap in; ``page`` changes when the whole page is worth a refresh."""

    html: str
    page: str = ""


@dataclass(frozen=True)
class Topic:
    """The content of a page. ``name`` is the page's word for it; topics with the same ``key`` share their renders."""

    name: str
    key: Hashable
    scope: str | None
    """The scope whose changes matter; all if ``None``."""
    render: Callable[[], Update | None]
    refresh_seconds: float | None = None
    """The longest time between two renders while somebody looks, for content that changes without a notification."""


@dataclass
class _CachedUpdate:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: float = -1.0
    update: Update | None = None


_cache: OrderedDict[Hashable, _CachedUpdate] = OrderedDict()


def response(topics: Sequence[Topic], may_still_read: MayStillRead) -> StreamingHttpResponse:
    """Stream the updates of ``topics`` until ``may_still_read`` returns False."""
    stream = StreamingHttpResponse(_stream(topics, may_still_read), content_type="text/event-stream")
    stream["Cache-Control"] = "no-store"
    stream["X-Accel-Buffering"] = "no"
    return stream


async def once(topics: Sequence[Topic]) -> HttpResponse:
    """Respond with the present content of ``topics`` and end, for browsers that poll."""
    updates = [(topic, await _fresh(topic, time.monotonic())) for topic in topics]
    content = "".join(_event(_content(topic, update)) for topic, update in updates)
    poll = _event({"poll": conf.settings().console_poll_seconds})
    # Not the type of a stream: some proxies keep that back whatever its length.
    return HttpResponse(content + poll, content_type="text/plain", headers={"Cache-Control": "no-store"})


async def _stream(topics: Sequence[Topic], may_still_read: MayStillRead) -> AsyncIterator[str]:
    await sync_to_async(connections.close_all)()
    _give_thread_back()
    # One place per topic: a slow reader gets fewer updates, not older ones.
    updates: asyncio.Queue[str | None] = asyncio.Queue(len(topics))
    ends_at = time.monotonic() + STREAM_SECONDS
    with shutdown.requested() as is_ending:
        tasks = [asyncio.create_task(_follow(topic, updates)) for topic in topics]
        ending = asyncio.create_task(is_ending.wait())
        try:
            yield ": open\n\n"
            while time.monotonic() < ends_at:
                event = await _next(updates, ending)
                if event is None:
                    return
                if not await may_still_read(_pool):
                    return
                yield event
        finally:
            for task in (*tasks, ending):
                task.cancel()
            await asyncio.gather(*tasks, ending, return_exceptions=True)


async def _next(updates: asyncio.Queue[str | None], ending: asyncio.Task[bool]) -> str | None:
    """Return the next event, a keep-alive comment if none comes for some time, or ``None`` at shutdown."""
    following = asyncio.create_task(updates.get())
    try:
        await asyncio.wait((following, ending), timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            return None
        return following.result() if following.done() else ": keep-alive\n\n"
    finally:
        following.cancel()


async def _follow(topic: Topic, updates: asyncio.Queue[str | None]) -> None:
    """Put an event into ``updates`` whenever the topic's content has changed; ``None`` if that fails."""
    try:
        await _follow_changes(topic, updates)
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("The stream of %s failed.", topic.name)
        await updates.put(None)


async def _follow_changes(topic: Topic, updates: asyncio.Queue[str | None]) -> None:
    sent: Update | None = Update("", "none was sent")
    with listener.subscribe(topic.scope) as subscription:
        wanted, is_recheck_due = time.monotonic(), True
        while True:
            try:
                update = await _fresh(topic, wanted)
            except DatabaseError as error:
                if not database.is_away(error):
                    raise
                database.log_outage(error, "a page")
                await asyncio.sleep(RECHECK_SECONDS)
                continue
            if update != sent:
                sent = update
                await updates.put(_event(_content(topic, update)))
            if update is None:
                return
            await asyncio.sleep(MIN_UPDATE_SECONDS)
            if is_recheck_due:
                notified = await subscription.wait(RECHECK_SECONDS)
                wanted = wanted + RECHECK_SECONDS
            elif topic.refresh_seconds is not None:
                wanted = _next_refresh(topic.refresh_seconds)
                notified = await subscription.wait(max(0.0, wanted - time.monotonic()))
            else:
                while not (notified := await subscription.wait(KEEP_ALIVE_SECONDS)):
                    pass
            wanted, is_recheck_due = (subscription.notified_at, True) if notified else (wanted, False)


def _next_refresh(seconds: float) -> float:
    """The next moment on a grid that all readers of a topic share, so that they share its render too."""
    return (time.monotonic() // seconds + 1) * seconds


def _content(topic: Topic, update: Update | None) -> dict[str, object]:
    if update is None:
        return {"topic": topic.name, "gone": True}
    return {"topic": topic.name, "html": update.html, "page": update.page}


def _give_thread_back() -> None:
    """End the thread that Django keeps for this request until its response ends, which can take minutes."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context is not None else None
    if executor is not None:
        executor.shutdown(wait=False)


async def _fresh(topic: Topic, wanted: float) -> Update | None:
    """Return the update as of ``wanted`` (monotonic seconds) or later, rendered at most once for all readers."""
    cached = _cache.setdefault(topic.key, _CachedUpdate())
    _cache.move_to_end(topic.key)
    while len(_cache) > CACHED_UPDATES:
        _cache.popitem(last=False)
    async with cached.lock:
        if cached.read_at < wanted:
            started = time.monotonic()
            cached.update = await asyncio.get_running_loop().run_in_executor(_pool, _rendered, topic.render)
            cached.read_at = started
        return cached.update


def _rendered(render: Callable[[], Update | None]) -> Update | None:
    """Render in a thread of the pool, which keeps its connection for the next render unless it broke.

    One that broke while nobody used it, as in a restart of the database, is nobody's error: it renders on another.
    """
    try:
        with database.own_connection():
            return render()
    except DatabaseError as error:
        if not database.is_away(error):
            raise
    with database.own_connection():
        return render()


def _event(content: dict[str, object]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
