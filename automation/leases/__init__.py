"""Claim, heartbeat, release, reap: every lock on a slice and, with ``checkpoint``, every fencing check."""

from automation.leases.claims import (
    Worker,
    claim,
    committed_cursor,
    finish_hook,
    heartbeat,
    held,
    holders,
    reap,
    release,
    rename_machine,
    renew,
    request_yield,
    set_apart,
    take,
    take_away,
    wait,
)

__all__ = [
    "Worker",
    "claim",
    "committed_cursor",
    "finish_hook",
    "heartbeat",
    "held",
    "holders",
    "reap",
    "release",
    "rename_machine",
    "renew",
    "request_yield",
    "set_apart",
    "take",
    "take_away",
    "wait",
]
