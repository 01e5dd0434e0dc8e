"""Which process this is, and whether another of this machine still lives."""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from pathlib import Path

import psutil


@lru_cache(maxsize=1)
def node_name() -> str:
    """The name of this node: its host name."""
    return socket.gethostname()


def identity() -> str:
    """This process, told apart from any other: host, boot, process-id namespace, pid and start since boot.

    Boot and namespace keep machines and containers that share a host name from judging each other's processes.
    """
    return _identity(os.getpid())


@lru_cache(maxsize=2)
def _identity(pid: int) -> str:
    return f"{_place()}/{pid}/{_started(pid)}"


@lru_cache(maxsize=1)
def _place() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "pid"
    try:
        boot = f"/{Path('/proc/sys/kernel/random/boot_id').read_text()[:8]}"
    except OSError:
        boot = ""
    return f"{node_name()}{boot}/{namespace}"


def _started(pid: int) -> str:
    """When ``pid`` started, in clock ticks since boot: unlike a wall-clock time it never moves."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if state in "ZX" else fields[18]
    except OSError:
        return f"{psutil.Process(pid).create_time():.2f}"


def name_of(owner: str, node: str) -> str:
    """``node`` and process id of an :func:`identity` (perhaps with a task's id after it), for people."""
    pid = pid_of(owner)
    return f"{node} · {pid}" if pid else node


def pid_of(owner: str) -> str:
    """The process id in an :func:`identity`, perhaps with a task's id after it; empty for an agent."""
    return re.sub(r"^[^/]*(?:/[^/]*)?/pid(?::[^/]*)?/(\d+)/.*$|^.*$", r"\1", owner)


def is_here(owner: str) -> bool:
    """Whether ``owner``, an :func:`identity`, is of this machine and can be looked at."""
    place, _, process = owner.partition("/pid:")
    return f"{place}/pid:{process.partition('/')[0]}" == _place()


def is_stopped(owner: str) -> bool:
    """Whether the process of ``owner``, an :func:`identity` of this machine, was stopped by a signal or a debugger."""
    pid = pid_of(owner)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"


def is_dead(owner: str) -> bool:
    """True only if ``owner``, an :func:`identity`, is of this machine and its process has ended.

    The kernel decides: /proc may hide the processes of other users (``hidepid``, ``ProtectProc``).
    """
    place, _, process = owner.partition("/pid:")
    namespace, _, rest = process.partition("/")
    if f"{place}/pid:{namespace}" != _place():
        return False
    pid, _, started = rest.partition("/")
    if not pid.isdecimal() or not int(pid):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's, and alive
    except OverflowError:
        return False
    try:
        return _started(int(pid)) != started.partition("/")[0]
    except psutil.Error:
        return False
