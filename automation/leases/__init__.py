"""Claim, renew, release, reap: every lock on a slice and, with ``checkpoint``, every fencing check."""

from automation.leases.claims import claim, leased_by, take
from automation.leases.holders import Worker, holders, rename_machine
from automation.leases.reaper import reap, request_yield, request_yield_of
from automation.leases.releases import committed_cursor, finish_hook, give_back, postpone, release, revoke, split_off
from automation.leases.renewals import heartbeat, renew

__all__ = [
    "Worker",
    "claim",
    "committed_cursor",
    "finish_hook",
    "give_back",
    "heartbeat",
    "holders",
    "leased_by",
    "postpone",
    "reap",
    "release",
    "rename_machine",
    "renew",
    "request_yield",
    "request_yield_of",
    "revoke",
    "split_off",
    "take",
]
