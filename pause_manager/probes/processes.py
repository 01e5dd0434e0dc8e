"""Which process this is, and whether another of this machine still lives."""

from __future__ import annotations

import os
import socket
from functools import lru_cache

import psutil


@lru_cache(maxsize=1)
def node_name() -> str:
    """The name of this node: its host name."""
    return socket.gethostname()


def identity() -> str:
    """This process, told apart from any other: host, process-id namespace, pid and start time.

    The namespace keeps containers that share a host name from judging each other's processes.
    """
    return _identity(os.getpid())


@lru_cache(maxsize=2)
def _identity(pid: int) -> str:
    return f"{_place()}/{pid}/{psutil.Process(pid).create_time():.2f}"


@lru_cache(maxsize=1)
def _place() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "pid"
    return f"{node_name()}/{namespace}"


def is_dead(owner: str) -> bool:
    """True only if ``owner``, an :func:`identity`, is of this machine and its process has ended."""
    place, _, process = owner.partition("/pid:")
    namespace, _, rest = process.partition("/")
    if f"{place}/pid:{namespace}" != _place():
        return False
    pid, _, started = rest.partition("/")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started.partition("/")[0]
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, ValueError):
        return False
