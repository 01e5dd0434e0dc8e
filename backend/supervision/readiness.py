"""Readiness as in systemd: a process that is ready sends ``READY=1`` to the socket named by ``NOTIFY_SOCKET``.

``manage.py up`` learns in this way that its workers are ready, and a systemd unit of ``Type=notify`` can, too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Any

from celery import signals

VARIABLE = "NOTIFY_SOCKET"
_READY = b"READY=1"


@signals.worker_ready.connect
@signals.beat_init.connect
def notify_ready(**_: Any) -> None:
    """Report this process as ready, if ``NOTIFY_SOCKET`` asks for it."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(_READY, address)


class Readiness:
    """Listens for the readiness of one process. On systems without abstract sockets it never hears of it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.env: dict[str, str] = {}
        """Environment to start the process with."""
        if sys.platform == "linux":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.bind("")  # the kernel chooses a name
            self.env = {VARIABLE: "@" + self._socket.getsockname()[1:].decode()}

    def was_notified(self) -> bool:
        """Return whether the process has reported since the last call that it is ready."""
        notified = False
        with contextlib.suppress(BlockingIOError):
            while self._socket is not None:
                notified |= self._socket.recv(4096).startswith(_READY)
        return notified

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
