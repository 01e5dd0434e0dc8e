"""Which process this is, on which machine and in which container, and whether another of this machine still lives."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from functools import lru_cache
from pathlib import Path

import psutil

from pause_manager.probes.owners import name_of as name_of
from pause_manager.probes.owners import pid_of as pid_of


@lru_cache(maxsize=1)
def host_name() -> str:
    """The host name that this process sees: the machine's, or that of its container."""
    return socket.gethostname()


@lru_cache(maxsize=1)
def boot_id() -> str:
    """What tells this machine from any other, and is the same in all of its containers: it changes with each boot.

    Where the kernel has none, the host name stands for it.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"host {host_name()}"


@lru_cache(maxsize=1)
def container() -> str:
    """What tells this container from the others of its machine: the workers in it share processes, limits and a user.

    A container of Docker, a systemd unit and a login of another user are each one. Its first part is for people. A
    worker that can share no directory with others stands apart.
    """
    try:
        groups = Path("/proc/self/cgroup").read_text()
    except OSError:
        groups = ""
    uid = os.getuid() if hasattr(os, "getuid") else 0
    unit = hashlib.sha256(f"{uid} {groups} {_apart}".encode()).hexdigest()[:6]
    return f"{host_name().replace('/', '-')}~{unit}/{_place()}"


_apart = ""


def stand_apart(token: str) -> None:
    """Be a container of its own, with all that is forked from here on; ``token`` tells it from any other."""
    global _apart
    _apart = token
    container.cache_clear()
    _identity.cache_clear()


def stands_apart() -> bool:
    """Return whether this worker is a container of its own."""
    return bool(_apart)


def container_name() -> str:
    """The :func:`container` as the name of a file."""
    return re.sub(r"[^\w.~]+", "-", container()).strip("-")


def container_of(owner: str) -> str:
    """The :func:`container` of an :func:`identity`, perhaps with a task's id after it; empty for an agent."""
    found = re.match(r"^[^/]+(?:/[^/]*)?/pid(?::[^/]*)?(?=/\d+/)", owner)
    return found[0] if found else ""


def identity() -> str:
    """This process, told apart from any other: container, boot, process-id namespace, pid and start since boot.

    Boot and namespace keep machines and containers that share a host name from judging each other's processes.
    """
    return _identity(os.getpid())


def identity_of(pid: int) -> str:
    """The :func:`identity` of another process of this container."""
    return _identity(pid)


@lru_cache(maxsize=2)
def _identity(pid: int) -> str:
    return f"{container()}/{pid}/{_started(pid)}"


@lru_cache(maxsize=1)
def _place() -> str:
    """Boot and process-id namespace: within it a process id means one process."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "pid"
    boot = hashlib.sha256(boot_id().encode()).hexdigest() if boot_id().startswith("host ") else boot_id()
    return f"{boot[:8]}/{namespace}"


def _started(pid: int) -> str:
    """Return when ``pid`` started, in clock ticks since boot: unlike a wall-clock time it never moves."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if state in "ZX" else fields[18]
    except OSError:
        return f"{psutil.Process(pid).create_time():.2f}"


def is_here(owner: str) -> bool:
    """Return whether ``owner``, an :func:`identity`, is of this machine and can be looked at."""
    return container_of(owner).partition("/")[2] == _place()


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
    if not is_here(owner):
        return False
    pid, _, started = owner.removeprefix(f"{container_of(owner)}/").partition("/")
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
