"""One server-sent stream for all open pages of a browser: each is told when what it shows has changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import Error as DatabaseError
from django.db import connections
from django.http import StreamingHttpResponse

from backend.console import shutdown
from backend.console.bell import bell
from pause_manager import database

logger = logging.getLogger("backend.console.live")

RENDER_THREADS = 4
"""Renders at once in a process, and database connections that all its open pages use together."""
SHORTEST_SECONDS = 0.3
"""Between two updates of one page."""
LOOK_AGAIN_SECONDS = 1.2
"""After a ring: the workers ring once a second, so what moved just after a ring is not told by itself."""
KEEP_ALIVE_SECONDS = 15.0
STREAM_SECONDS = 600.0
"""Then the browser connects again."""
RIGHTS_SECONDS = 1.0
"""What was read of a reader's rights is believed for so long."""
KEPT_UPDATES = 500

_pool = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="console-render")


@dataclass(frozen=True)
class Update:
    """What a page is sent: ``html`` to swap in; ``page`` changes when the whole page is worth a refresh."""

    html: str
    page: str = ""


@dataclass(frozen=True)
class Topic:
    """What a page shows. ``name`` is what the page calls it; topics with the same ``key`` share one render a change."""

    name: str
    key: Hashable
    scope: str | None
    """Whose changes are heard; all if ``None``."""
    render: Callable[[], Update | None]


@dataclass
class _Kept:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: float = -1.0
    update: Update | None = None


_kept: OrderedDict[Hashable, _Kept] = OrderedDict()


def response(topics: Sequence[Topic], may_still_read: Callable[[], bool]) -> StreamingHttpResponse:
    """A stream of the updates of ``topics``, which ends as soon as ``may_still_read`` says no."""
    answer = StreamingHttpResponse(_stream(topics, may_still_read), content_type="text/event-stream")
    answer["Cache-Control"] = "no-store"
    answer["X-Accel-Buffering"] = "no"
    return answer


async def _stream(topics: Sequence[Topic], may_still_read: Callable[[], bool]) -> AsyncIterator[str]:
    await sync_to_async(connections.close_all)()
    _give_thread_back()
    # As many as there are topics: who reads slowly gets fewer updates, not older ones.
    updates: asyncio.Queue[str | None] = asyncio.Queue(len(topics))
    ends_at, is_read_at = time.monotonic() + STREAM_SECONDS, time.monotonic()
    with shutdown.notice() as is_ending:
        tasks = [asyncio.create_task(_follow(topic, updates)) for topic in topics]
        ending = asyncio.create_task(is_ending.wait())
        try:
            yield ": open\n\n"
            while time.monotonic() < ends_at:
                event = await _next(updates, ending)
                if event is None:
                    return
                if time.monotonic() >= is_read_at + RIGHTS_SECONDS:
                    if not await asyncio.get_running_loop().run_in_executor(_pool, _asked, may_still_read):
                        return
                    is_read_at = time.monotonic()
                yield event
        finally:
            for task in (*tasks, ending):
                task.cancel()
            await asyncio.gather(*tasks, ending, return_exceptions=True)


async def _next(updates: asyncio.Queue[str | None], ending: asyncio.Task[bool]) -> str | None:
    """The next event, a sign of life if none comes for some time; ``None`` at the end."""
    following = asyncio.create_task(updates.get())
    try:
        await asyncio.wait((following, ending), timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            return None
        return following.result() if following.done() else ": still here\n\n"
    finally:
        following.cancel()


async def _follow(topic: Topic, updates: asyncio.Queue[str | None]) -> None:
    """Put an event into ``updates`` whenever what the topic shows has changed; ``None`` if that breaks."""
    try:
        await _follow_changes(topic, updates)
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("The stream of %s failed.", topic.name)
        await updates.put(None)


async def _follow_changes(topic: Topic, updates: asyncio.Queue[str | None]) -> None:
    sent: Update | None = None
    with bell.listen(topic.scope) as listener:
        wanted, looks_again = time.monotonic(), True
        while True:
            try:
                update = await _fresh(topic, wanted)
            except DatabaseError as error:
                if not database.is_away(error):
                    raise
                database.log_outage(error, "a page")
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            if update is None:
                await updates.put(_event({"topic": topic.name, "gone": True}))
                return
            if update != sent:
                sent = update
                await updates.put(_event({"topic": topic.name, "html": sent.html, "page": sent.page}))
            await asyncio.sleep(SHORTEST_SECONDS)
            if looks_again:
                heard = await listener.wait(LOOK_AGAIN_SECONDS)
            else:
                while not (heard := await listener.wait(KEEP_ALIVE_SECONDS)):
                    pass
            wanted, looks_again = (listener.rung_at, True) if heard else (wanted + LOOK_AGAIN_SECONDS, False)


def _give_thread_back() -> None:
    """End the thread that Django keeps for this request until its response ends, which here is after minutes."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context is not None else None
    if executor is not None:
        executor.shutdown(wait=False)


async def _fresh(topic: Topic, wanted: float) -> Update | None:
    """The update as of ``wanted`` (monotonic seconds) or later."""
    kept = _kept.setdefault(topic.key, _Kept())
    _kept.move_to_end(topic.key)
    while len(_kept) > KEPT_UPDATES:
        _kept.popitem(last=False)
    async with kept.lock:
        if kept.read_at < wanted:
            started = time.monotonic()
            kept.update = await asyncio.get_running_loop().run_in_executor(_pool, _rendered, topic.render)
            kept.read_at = started
        return kept.update


def _rendered(render: Callable[[], Update | None]) -> Update | None:
    """In a thread of the pool, which keeps its connection for the next render unless it broke."""
    try:
        return render()
    except DatabaseError:
        connections.close_all()
        raise


def _asked(may_still_read: Callable[[], bool]) -> bool:
    """The same for the rights. A database that is away lets nobody read on: the browser connects again."""
    try:
        return may_still_read()
    except DatabaseError:
        with contextlib.suppress(DatabaseError):
            connections.close_all()
        return False


def _event(content: dict[str, object]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
