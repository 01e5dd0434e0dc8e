"""Containers without a container engine: processes in UTS, process-id, mount and user namespaces of their own.

Like the containers of one host they share its boot id, and see neither each other's processes nor its host name.
"""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from pathlib import Path

import psutil

_UNSHARE = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
# Who is root may do without, and stays who may reach the sockets of servers that run as somebody else.
_AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def within(host: str, *, boot_id: Path | None = None) -> list[str]:
    """What comes before a command that is to run in a container called ``host``.

    ``boot_id`` is a file with the boot id of another machine, on which the container then is.
    """
    prepare = 'hostname "$0"'
    if boot_id is not None:
        prepare += f" && mount --bind {boot_id} /proc/sys/kernel/random/boot_id"
    return [*_UNSHARE, *_AS_ROOT, "sh", "-c", f'{prepare} && exec "$@"', host]


def inside(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The first process of the container that ``process`` is the outside of."""
    [first] = psutil.Process(process.pid).children()
    return first


@lru_cache
def why_not() -> str:
    """Why there can be no containers here; empty if there can."""
    try:
        done = subprocess.run([*within("box"), "hostname"], capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        return str(error)
    return "" if done.stdout.strip() == "box" else done.stderr.strip() or "unshare does not do it"
