"""Claim, heartbeat, release, reap: every lock on a slice and, with ``checkpoint``, every fencing check."""

from automation.leases.claims import (
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
    rename_machine,
    renew,
    request_yield,
    revoke,
    split_off,
    take,
)

__all__ = [
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
    "rename_machine",
    "renew",
    "request_yield",
    "revoke",
    "split_off",
    "take",
]
