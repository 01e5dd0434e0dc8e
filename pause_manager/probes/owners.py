"""What can be read from the name of a process (``processes.identity``) without looking at any."""

from __future__ import annotations

import re


def name_of(owner: str, node: str) -> str:
    """``node`` and process id of an identity (perhaps with a task's id after it), for people."""
    pid = pid_of(owner)
    return f"{node} · {pid}" if pid else node


def pid_of(owner: str) -> str:
    """The process id in an identity, perhaps with a task's id after it; empty for an agent."""
    return re.sub(r"^[^/]*(?:/[^/]*)?/pid(?::[^/]*)?/(\d+)/.*$|^.*$", r"\1", owner)
