"""Ends open streams when the web process is asked to stop; the server would wait for them, and then cut them off."""

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
def requested() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    _install()
    entry = (asyncio.get_running_loop(), asyncio.Event())
    _waiting.add(entry)
    try:
        yield entry[1]
    finally:
        _waiting.discard(entry)


def _install() -> None:
    """Wrap the server's own signal handlers, which are installed before any page is open."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(signum)
        if handler is _on_signal or handler is None:
            continue
        # Only the main thread can install signal handlers.
        with contextlib.suppress(ValueError):
            signal.signal(signum, _on_signal)
            _previous[signum] = handler


def _on_signal(signum: int, frame: FrameType | None) -> None:
    for loop, event in list(_waiting):
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(event.set)
    previous = _previous.get(signum, signal.SIG_DFL)
    if callable(previous):
        previous(signum, frame)
    elif previous == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
