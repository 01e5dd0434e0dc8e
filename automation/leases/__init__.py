"""Claim, heartbeat, release, reap: every lock on a slice and, with ``checkpoint``, every fencing check."""

from automation.leases.claims import (
    KEEPS_SECONDS,
    Worker,
    claim,
    committed_cursor,
    finish_hook,
    heartbeat,
    holders,
    leased_by,
    postpone,
    reap,
    release,
    renew,
    request_yield,
    revoke,
    split_off,
    take,
)

__all__ = [
    "KEEPS_SECONDS",
    "Worker",
    "claim",
    "committed_cursor",
    "finish_hook",
    "heartbeat",
    "holders",
    "leased_by",
    "postpone",
    "reap",
    "release",
    "renew",
    "request_yield",
    "revoke",
    "split_off",
    "take",
]
