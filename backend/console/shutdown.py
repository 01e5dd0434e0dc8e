"""Tells open streams that the web process is to end: the server waits for them, and would cut them off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

_waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
_previous: dict[int, Any] = {}


@contextlib.contextmanager
def notice() -> Iterator[asyncio.Event]:
    """An event that is set at SIGTERM and SIGINT, as long as the block lasts."""
    _install()
    entry = (asyncio.get_running_loop(), asyncio.Event())
    _waiting.add(entry)
    try:
        yield entry[1]
    finally:
        _waiting.discard(entry)


def _install() -> None:
    """Stand before the server's own handlers, which are there by the time that a page is open."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(signum)
        if handler is _on_signal or handler is None:
            continue
        # Elsewhere than in the main thread signals are not ours.
        with contextlib.suppress(ValueError):
            signal.signal(signum, _on_signal)
            _previous[signum] = handler


def _on_signal(signum: int, frame: FrameType | None) -> None:
    for loop, event in list(_waiting):
        with contextlib.suppress(RuntimeError):  # its loop has ended
            loop.call_soon_threadsafe(event.set)
    previous = _previous.get(signum, signal.SIG_DFL)
    if callable(previous):
        previous(signum, frame)
    elif previous == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
