"""Loops that are lost in the ways in which they are lost: by real processes that die, or live on and are silent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from automation import leases
from automation.items.leased_slice import LeasedSlice
from automation.leases.holders import Worker
from automation.models import AutomationRun
from automation.runs import reconciler
from pause_manager.probes import processes
from tests.support.factories import claim, expire_leases, stage_of


@contextmanager
def process() -> Iterator[str]:
    """The identity of a process that lives, and is dead afterwards."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield processes.identity_of(child.pid)
    finally:
        child.kill()
        child.wait()


def claim_as(run: AutomationRun, owner: str, keeper: str = "") -> LeasedSlice:
    """A lease of a process, that must be granted; ``keeper`` is this one unless it is named."""
    work = may_claim(run, owner, keeper)
    assert work is not None
    return work


def may_claim(run: AutomationRun, owner: str, keeper: str = "", *, is_fresh: bool = True) -> LeasedSlice | None:
    """The same, if there is something; ``is_fresh`` if its loop has done nothing yet."""
    return leases.claim(
        stage_of(run).pk,
        Worker(f"{owner}/task", "node-1", keeper=keeper or processes.identity()),
        is_fresh=is_fresh,
    )


def die_on_an_item(run: AutomationRun) -> LeasedSlice:
    """A pool process leases the next slice and dies; its worker lives. Then somebody looks."""
    with process() as owner:
        work = claim_as(run, owner)
    assert reconciler.reap() == 1
    return work


def fall_silent(run: AutomationRun) -> LeasedSlice:
    """A worker of another machine leases the next slice and is not heard of any more. Then somebody looks."""
    work = claim(run, "silent")
    assert work is not None
    expire_leases(run)
    assert reconciler.reap() == 1
    return work
