"""Claim, heartbeat, release, reap: every lock on a slice and, with ``checkpoint``, every fencing check."""

from automation.leases.claims import (
    KEEPS_SECONDS,
    Worker,
    claim,
    committed_cursor,
    finish_hook,
    heartbeat,
    held,
    holders,
    reap,
    release,
    renew,
    request_yield,
    set_apart,
    take,
    take_away,
    wait,
)

__all__ = [
    "KEEPS_SECONDS",
    "Worker",
    "claim",
    "committed_cursor",
    "finish_hook",
    "heartbeat",
    "held",
    "holders",
    "reap",
    "release",
    "renew",
    "request_yield",
    "set_apart",
    "take",
    "take_away",
    "wait",
]
