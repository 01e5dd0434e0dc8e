"""The site that benchmark runs belong to, and a run of a benchmark pipeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automation.models import AutomationRun


def create_run(pipeline: str, *, start: bool, site: str = "bench", **params: int) -> AutomationRun:
    """A run of ``pipeline`` for ``site``; its items are made from ``params``."""
    from automation.models import Account, Lane, Site
    from automation.runs import creation
    from pause_manager.actor import Actor

    account, _ = Account.objects.get_or_create(name="bench")
    owner, _ = Site.objects.get_or_create(account=account, slug=site, name=site)
    Lane.objects.get_or_create(name=owner.slug, defaults={"width": 1_000})
    return creation.create(pipeline, site=owner, actor=Actor("system", "benchmark"), params=params, start=start)


def start(run: AutomationRun) -> None:
    """Start a run that was created without."""
    from automation.runs import lifecycle
    from pause_manager.actor import Actor

    lifecycle.start_run(run.pk, actor=Actor("system", "benchmark"))


def wait_until_finished(run: AutomationRun) -> float:
    """Seconds from start to end of the run by the database's clock, once all its outputs are committed."""
    from automation.models import AutomationRun

    while not AutomationRun.objects.filter(pk=run.pk, finished_at__isnull=False).exists():
        time.sleep(0.02)
    run.refresh_from_db()
    outputs = run.stages.get(position=0).outputs.count()
    if run.lifecycle != "completed" or outputs != run.total_items:
        raise RuntimeError(f"expected {run.total_items} outputs of a completed run, got {outputs}: {run.lifecycle}")
    assert run.started_at is not None
    assert run.finished_at is not None
    return (run.finished_at - run.started_at).total_seconds()
