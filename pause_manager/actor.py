"""Who acted, and through which channel."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Actor:
    """``name`` is ``user:alice``, ``schedule``, ``capacity`` or ``system``; ``channel``: api, admin, cli, …"""

    name: str
    channel: str
    request_id: str = ""
    user_id: str = ""
    """The primary key of the signed-in user, as text; empty for everybody else."""

    @classmethod
    def user(cls, user: Any, *, channel: str, request_id: str = "") -> Actor:
        """The actor of an authenticated ``user``."""
        return cls(f"user:{user.get_username()}", channel, request_id, str(user.pk))

    @classmethod
    def shell(cls) -> Actor:
        """The user who is logged in on this machine."""
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
        return cls(f"shell:{name}", "cli")


SYSTEM = Actor("system", "worker")
CAPACITY = Actor("capacity", "policy")
