"""Readiness as systemd has it: a process that serves sends ``READY=1`` to the socket named by ``NOTIFY_SOCKET``.

``manage.py up`` listens to its workers so, and a unit of ``Type=notify`` can.
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
def tell_ready(**_: Any) -> None:
    """Say that this process serves, to whoever has asked to be told."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(_READY, address)


class Readiness:
    """Hears of one process whether it has become ready. Where there are no abstract sockets it never hears."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.env: dict[str, str] = {}
        """What the process is to be started with."""
        if sys.platform == "linux":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.bind("")  # the kernel chooses a name
            self.env = {VARIABLE: "@" + self._socket.getsockname()[1:].decode()}

    def was_told(self) -> bool:
        """Whether the process has said since the last call that it is ready."""
        told = False
        with contextlib.suppress(BlockingIOError):
            while self._socket is not None:
                told |= self._socket.recv(4096).startswith(_READY)
        return told

    def close(self) -> None:
        """Hear no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
