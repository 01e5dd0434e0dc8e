"""Reasons why no worker is on a run that nothing stops: none serves it, knows it or is free; and what a stop waits for.

None of them stops a worker that comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, Min, Q
from django.db.models.functions import Now

from automation.gate import installed_code
from automation.models import Agent, AutomationRun, Lifecycle, StageRun, Ticket, WorkSlice
from automation.pipeline import definition
from automation.pipeline.definition import Definition
from automation.pipeline.params import AGENT
from pause_manager import conf
from pause_manager.models.clock import database_now
from pause_manager.nodes import serving
from pause_manager.pause_queue import outlook, unserved
from pause_manager.probes import owners
from pause_manager.reasons import ReasonCode

NO_AGENT = ReasonCode.NO_AGENT
NO_FREE_WORKER = ReasonCode.NO_FREE_WORKER
AT_WORK = ReasonCode.AT_WORK
WAITS_SECONDS = 2.0
"""A message that is out for longer waits for a worker to be free."""
MOST_RUNS = 3


class IdleReason(NamedTuple):
    """One thing that is waited for; as ``gate.Reason``."""

    code: str
    sentence: str
    since: datetime | None
    lifted_by: str


def of(run: AutomationRun, *, is_kept: bool) -> list[IdleReason]:
    """What ``run``, which is running, waits for. Of one that something keeps: for what is still in progress."""
    if is_kept:
        return list(_at_work(run))
    running = run.stages.filter(lifecycle=Lifecycle.RUNNING)
    stages = {one.pk: definition.of(one) for one in running if installed_code.is_here(run.pipeline, one)}
    return [
        *_agents(run, [stage for stage in stages.values() if stage.is_for_agents]),
        *_workers(run, {pk: stage for pk, stage in stages.items() if not stage.is_for_agents}),
    ]


def _workers(run: AutomationRun, stages: dict[int, Definition]) -> Iterator[IdleReason]:
    queues = {stage.queue for stage in stages.values()}
    nobody = unserved.of(queues)
    for queue in nobody:
        lifted = f"a worker is started that serves the queue {queue}"
        yield IdleReason(outlook.NO_WORKER, unserved.sentence(queue), None, lifted)
    known = installed_code.pipeline_of(run.pipeline)
    name = known.slug if known is not None else run.pipeline
    for queue in sorted(queues.difference(nobody)):
        if not serving.knows(queue, name):
            sentence = f"No live worker that serves the queue {queue} knows the pipeline {name}."
            yield IdleReason(outlook.NO_WORKER, sentence, None, "a worker is started that has it in its code")
        else:
            yield from _busy(run, queue, [pk for pk, stage in stages.items() if stage.queue == queue])


def _busy(run: AutomationRun, queue: str, stage_run_ids: Iterable[int]) -> Iterator[IdleReason]:
    leased = WorkSlice.objects.leased()
    if leased.filter(stage_run__run=run).exists():
        return
    waiting = Ticket.objects.filter(stage_run__in=stage_run_ids, sent_at__lt=Now() - timedelta(seconds=WAITS_SECONDS))
    since = waiting.aggregate(since=Min("sent_at"))["since"]
    if since is None:
        return
    at_work = StageRun.objects.filter(definition__queue=queue, lifecycle=Lifecycle.RUNNING).exclude(run=run)
    counted = (
        leased.filter(stage_run__in=at_work)
        .order_by()
        .values_list("stage_run__run", "stage_run__run__account")
        .annotate(loops=Count("pk"))
        .order_by("-loops", "stage_run__run")
    )
    # Runs of other accounts have no names here: readers see none of them.
    others = [(str(pk) if account == run.account_id else "", loops) for pk, account, loops in counted]
    lifted = (
        "a worker is free; it has its turn within seconds, or when the items in progress have ended if those are long"
    )
    yield IdleReason(NO_FREE_WORKER, _told(queue, serving.places(queue), others), since, lifted)


def _told(queue: str, places: int | None, others: list[tuple[str, int]]) -> str:
    if not others:
        return f"It waits for a free worker of the queue {queue}."
    known = [pk[:8] for pk, _ in others if pk]
    names = known[:MOST_RUNS]
    if len(known) > MOST_RUNS:
        names.append(f"{len(known) - MOST_RUNS} more")
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    where = [f"run{'s' if len(known) > 1 else ''} {listed}"] if known else []
    if strange := len(others) - len(known):
        where.append(f"{strange} run{'s' if strange > 1 else ''} of other accounts")
    count = sum(loops for _, loops in others)
    of_all = f"{count} of {max(places, count)}" if places is not None else f"{count}"
    return f"It waits for a free worker: {of_all} {'is' if count == 1 else 'are'} on {' and '.join(where)}."


def _agents(run: AutomationRun, stages: Iterable[Definition]) -> Iterator[IdleReason]:
    titles = [stage.title for stage in stages]
    if not titles:
        return
    lately = timedelta(seconds=conf.settings().gone_seconds)
    able = Agent.objects.filter(
        Q(site__isnull=True) | Q(site=run.site_id),
        is_enabled=True,
        account=run.site.account_id,
        pipelines__overlap=installed_code.aliases([run.pipeline]),
    )
    if able.filter(last_seen_at__gte=Now() - lately).exists():
        return
    leased = WorkSlice.objects.leased().filter(stage_run__run=run)
    if leased.filter(stage_run__definition__interface=AGENT).exists():
        return
    sentence = f"No agent that may take work of {run.pipeline} was heard of lately, and agents do {', '.join(titles)}."
    since = able.order_by("-last_seen_at").values_list("last_seen_at", flat=True).exclude(last_seen_at=None).first()
    yield IdleReason(NO_AGENT, sentence, since, "such an agent asks for work")


def irreversible_at_work(run_id: UUID) -> list[str]:
    """The slugs of stages marked irreversible of which a worker is at an item: a cancel waits until that has ended."""
    return irreversible_of([run_id]).get(run_id, [])


def irreversible_of(run_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """:func:`irreversible_at_work` by run, of those that have any."""
    leased = WorkSlice.objects.leased().filter(stage_run__run__in=run_ids, stage_run__definition__irreversible=True)
    found: dict[UUID, list[str]] = {}
    for pk, slug in leased.order_by("stage_run__slug").values_list("stage_run__run", "stage_run__slug").distinct():
        found.setdefault(pk, []).append(slug)
    return found


def told_of_irreversible(slugs: Sequence[str]) -> str:
    """That a cancel is deferred because of these stages, in a sentence; empty for none."""
    if not slugs:
        return ""
    which = f"Stage {slugs[0]} is" if len(slugs) == 1 else f"Stages {', '.join(slugs)} are"
    return f"{which} irreversible: the cancel is deferred until the item in progress has ended."


def _at_work(run: AutomationRun) -> Iterator[IdleReason]:
    """What a pause or cancel waits for, once it takes some seconds."""
    long = WorkSlice.objects.leased().filter(stage_run__run=run, item_since__isnull=False).select_related("stage_run")
    rows = list(long.order_by("item_since")[:MOST_RUNS])
    now = database_now() if rows else None
    for row in rows:
        assert row.item_since is not None
        assert now is not None
        what = f"Item {row.item_key}" if row.item_key else WorkSlice.Phase(row.phase).label.capitalize()
        seconds = max(0.0, (now - row.item_since).total_seconds())
        worker = owners.name_of(row.lease_owner, row.lease_node)
        end = f"it is ended at {row.item_limit:g} s" if row.item_limit is not None else "it has no time limit"
        sentence = (
            f"{what} of stage {row.stage_run.slug} has been in progress for {seconds:.0f} s on worker {worker}; {end}."
        )
        yield IdleReason(AT_WORK, sentence, row.item_since, "it is done, or ended")
