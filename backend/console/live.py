"""Server-sent events: a page is told when what it shows has changed, and only then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import Error as DatabaseError
from django.db import connections
from django.http import StreamingHttpResponse

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
"""Then the page connects again, and permissions are asked again."""
KEPT_UPDATES = 500

_pool = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="console-render")


@dataclass(frozen=True)
class Update:
    """What a page is sent: ``html`` to swap in; ``page`` changes when the whole page is worth a refresh."""

    html: str
    page: str = ""


@dataclass
class _Kept:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: float = -1.0
    update: Update | None = None


_kept: OrderedDict[Hashable, _Kept] = OrderedDict()


def response(
    key: Hashable, scope: str | None, render: Callable[[], Update | None], seen: str = ""
) -> StreamingHttpResponse:
    """A stream of updates made by ``render``; pages with the same ``key`` share one render a change."""
    answer = StreamingHttpResponse(_stream(key, scope, render, seen), content_type="text/event-stream")
    answer["Cache-Control"] = "no-store"
    answer["X-Accel-Buffering"] = "no"
    return answer


async def _stream(
    key: Hashable, scope: str | None, render: Callable[[], Update | None], seen: str
) -> AsyncIterator[str]:
    await sync_to_async(connections.close_all)()
    _give_thread_back()
    sent, ends_at = "", time.monotonic() + STREAM_SECONDS
    with bell.listen(scope) as listener:
        wanted, looks_again = time.monotonic(), True
        while time.monotonic() < ends_at:
            try:
                update = await _fresh(key, render, wanted)
            except DatabaseError as error:
                if not database.is_away(error):
                    raise
                database.note_away(error, "a page")
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            if update is None:
                return
            if update.html != sent:
                sent = update.html
                yield _event(sent)
            if update.page != seen:
                seen = update.page
                yield _event("changed", name="page")
            await asyncio.sleep(SHORTEST_SECONDS)
            while not await listener.wait(LOOK_AGAIN_SECONDS if looks_again else KEEP_ALIVE_SECONDS):
                if looks_again or time.monotonic() >= ends_at:
                    break
                yield ": still here\n\n"
            else:
                wanted, looks_again = listener.rung_at, True
                continue
            wanted, looks_again = wanted + LOOK_AGAIN_SECONDS, False


def _give_thread_back() -> None:
    """End the thread that Django keeps for this request until its response ends, which here is after minutes."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context is not None else None
    if executor is not None:
        executor.shutdown(wait=False)


async def _fresh(key: Hashable, render: Callable[[], Update | None], wanted: float) -> Update | None:
    """The update as of ``wanted`` (monotonic seconds) or later."""
    kept = _kept.setdefault(key, _Kept())
    _kept.move_to_end(key)
    while len(_kept) > KEPT_UPDATES:
        _kept.popitem(last=False)
    async with kept.lock:
        if kept.read_at < wanted:
            started = time.monotonic()
            kept.update = await asyncio.get_running_loop().run_in_executor(_pool, _rendered, render)
            kept.read_at = started
        return kept.update


def _rendered(render: Callable[[], Update | None]) -> Update | None:
    """In a thread of the pool, which keeps its connection for the next render unless it broke."""
    try:
        return render()
    except DatabaseError:
        connections.close_all()
        raise


def _event(data: str, name: str = "") -> str:
    head = f"event: {name}\n" if name else ""
    return head + "".join(f"data: {line}\n" for line in data.splitlines()) + "\n"
