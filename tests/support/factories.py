"""Plain makers of what a test needs, and loops that run here and now: the real task, called without a broker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from automation import leases, tasks
from automation.files.fenced import FencedArtifacts
from automation.items.leased_slice import LeasedSlice
from automation.leases.holders import Worker
from automation.models import Account, AutomationRun, Lane, Lifecycle, Site, StageRun, Ticket, WorkItem, WorkSlice
from automation.models.tables import SLICE, STAGE
from automation.runs import creation, reconciler
from pause_manager.actor import Actor
from pause_manager.messaging import broker
from pause_manager.models import ControlEvent
from pause_manager.slots import slot_table
from pause_manager.slots.shared_state import SharedState
from pause_manager.slots.standalone import standalone
from tests.support import pipelines
from tests.support.pipelines import wait_until

OPERATOR = Actor("user:olga", "test", "request-1")

WIDE = 1_000
"""Most tests have several runs on one site, and are not about their order."""

_numbers = itertools.count(1)


def make_site(slug: str = "") -> Site:
    slug = slug or f"site-{next(_numbers)}"
    account, _ = Account.objects.get_or_create(name=f"Account of {slug}")
    widen(slug)
    return Site.objects.create(account=account, slug=slug, name=slug.title())


def widen(lane: str, width: int = WIDE) -> None:
    """Have a lane without a row be ``width`` runs wide; a test that is about lanes says how wide its own is."""
    Lane.objects.get_or_create(name=lane, defaults={"width": width})


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"n": n} for n in range(1, count + 1)]


def make_run(pipeline: str = "numbers", items: int | list[dict[str, Any]] | None = 10, **options: Any) -> AutomationRun:
    """A run of one of the test pipelines over the items 1, 2, 3, …, started if the gate is open."""
    assert pipelines
    given = numbers(items) if isinstance(items, int) else items
    site = options.setdefault("site", Site.objects.first() or make_site())
    widen(site.slug)
    return creation.create(pipeline, items=given, actor=OPERATOR, **options)


def worker(name: str = "a") -> Worker:
    return Worker(owner=f"test/{name}", node="node-1")


def stage_of(run: AutomationRun, slug: str = "") -> StageRun:
    """The named stage, or the first that is running."""
    if slug:
        return run.stages.get(slug=slug)
    return run.stages.filter(lifecycle=Lifecycle.RUNNING).order_by("position")[0]


def claim(run: AutomationRun, name: str = "a", slug: str = "") -> LeasedSlice | None:
    """A lease on the next slice of the run, without a loop."""
    stage_run = stage_of(run, slug)
    return leases.claim(stage_run.pk, worker(name))


def leased(run: AutomationRun, name: str = "a") -> LeasedSlice:
    """A lease that must be granted."""
    work = claim(run, name)
    assert work is not None
    return work


def writer_of(run: AutomationRun, name: str = "a") -> FencedArtifacts:
    """What a loop that holds the next slice of the run writes files with."""
    work = leased(run, name)
    return FencedArtifacts(run.pk, stage_of(run).slug, lambda: work)


@contextmanager
def midway_in_a_checkpoint(run: AutomationRun, key: str = "000.000") -> Iterator[None]:
    """A checkpoint of the first stage that writes output ``key`` gets no further: it has moved the slice, and waits."""
    with transaction.atomic():
        WorkItem.objects.create(made_by=run.stages.get(position=0), key=key, payload={})
        yield
        transaction.set_rollback(True)


def run_loop(run: AutomationRun, slug: str = "") -> None:
    """One stage loop of a running stage, in this thread, with the ticket of a message that was sent for it."""
    stage_run = stage_of(run, slug)
    ticket = Ticket.objects.filter(stage_run=stage_run).first() or Ticket.objects.create(
        stage_run=stage_run, queue="stages"
    )
    tasks.stage_loop(stage_run.pk, ticket.pk)


def drain(run: AutomationRun, limit: int = 500) -> AutomationRun:
    """Answer every message that was sent for the run until none is left, as one worker would."""
    for _ in range(limit):
        ticket = Ticket.objects.filter(stage_run__run=run).order_by("pk").first()
        if ticket is None:
            run.refresh_from_db()
            return run
        tasks.stage_loop(ticket.stage_run_id, ticket.pk)
    raise AssertionError(f"the run still has messages after {limit} loops")


def settle(run: AutomationRun, rounds: int = 50) -> AutomationRun:
    """Reconcile and drain until the run is final, as beat and a worker would."""
    for _ in range(rounds):
        reconciler.reap()
        reconciler.reconcile()
        if drain(run).finished_at is not None:
            return run
        WorkSlice.objects.filter(stage_run__run=run).update(available_at=None)
    raise AssertionError(f"the run is still {run.lifecycle} after {rounds} rounds")


def outputs(run: AutomationRun, slug: str = "") -> list[dict[str, Any]]:
    """Payloads of one stage, of the last by default, in order."""
    stage_run = run.stages.get(slug=slug) if slug else run.stages.order_by("-position")[0]
    return list(WorkItem.objects.filter(made_by=stage_run).order_by("key").values_list("payload", flat=True))


def everything(run: AutomationRun) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """(key, payload) of every output of every stage: what two runs over the same input must have in common."""
    return {
        stage_run.slug: list(stage_run.outputs.order_by("key").values_list("key", "payload"))
        for stage_run in run.stages.order_by("position")
    }


def expire_leases(run: AutomationRun) -> None:
    """Let the leases of the run be over by the database's clock."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SLICE} SET lease_expires_at = statement_timestamp() - interval '1 second' "
            f"WHERE lease_token IS NOT NULL AND stage_run_id IN (SELECT id FROM {STAGE} WHERE run_id = %s)",
            [run.pk],
        )


def everybody_has_heard() -> None:
    """Return once every loop of this process has been told to stop."""
    wait_until(
        lambda: (
            standalone.state is None
            or all(_is_stopped(standalone.state, number) for number in slot_table.taken(standalone.state))
        )
    )


def _is_stopped(here: SharedState, number: int) -> bool:
    return any(here.memory[slot_table._FLAGS + 4 * number : slot_table._FLAGS + 4 * number + 4])


def events(run: AutomationRun, *actions: str) -> list[ControlEvent]:
    """The run's events, oldest first; of the named actions only, if any."""
    found = ControlEvent.objects.filter(scope=run.scope).order_by("pk")
    return list(found.filter(action__in=actions) if actions else found)


def rows(run: AutomationRun) -> dict[str, Any]:
    """Every row that belongs to the run, to compare before and after something that must leave no trace."""
    return {
        "run": AutomationRun.objects.filter(pk=run.pk).values().get(),
        "stages": list(run.stages.order_by("pk").values()),
        "slices": list(WorkSlice.objects.filter(stage_run__run=run).order_by("pk").values()),
        "events": ControlEvent.objects.filter(scope=run.scope).count(),
        "items": WorkItem.objects.filter(made_by__run=run).count(),
        "tickets": list(Ticket.objects.filter(stage_run__run=run).order_by("pk").values()),
    }


def tickets(run: AutomationRun) -> int:
    return Ticket.objects.filter(stage_run__run=run).count()


def depth() -> int | None:
    """Messages in the broker's queue of stage loops."""
    return broker.queue_depth("stages")
