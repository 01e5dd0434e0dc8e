"""Reasons why no worker is on a run that nothing stops: none serves it, knows it or is free; and what a stop waits for.

None of them stops a worker that comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, Min, Q, Window
from django.db.models.functions import Now, RowNumber

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


def of(open_runs: Sequence[AutomationRun], kept: Sequence[AutomationRun]) -> dict[UUID, list[IdleReason]]:
    """What running runs wait for; those that something keeps, for what is still in progress.

    The statements grow with the queues, not with the runs.
    """
    found: dict[UUID, list[IdleReason]] = {}
    stages = _running_stages(open_runs)
    busy = Busy(open_runs, [pk for some in stages.values() for pk in some])
    for run in open_runs:
        defined = stages.get(run.pk, {})
        found[run.pk] = [
            *_agents(run, [stage for stage in defined.values() if stage.is_for_agents]),
            *_workers(run, {pk: stage for pk, stage in defined.items() if not stage.is_for_agents}, busy),
        ]
    return found | _at_work(kept)


def _running_stages(runs: Sequence[AutomationRun]) -> dict[UUID, dict[int, Definition]]:
    """By run, what its running stages are that this release has."""
    pipelines = {run.pk: run.pipeline for run in runs}
    found: dict[UUID, dict[int, Definition]] = {}
    running = StageRun.objects.filter(run__in=pipelines, lifecycle=Lifecycle.RUNNING) if runs else ()
    for one in running:
        if installed_code.is_here(pipelines[one.run_id], one):
            found.setdefault(one.run_id, {})[one.pk] = definition.of(one)
    return found


class Busy:
    """What is asked of queues and leases for several runs, each once."""

    def __init__(self, runs: Sequence[AutomationRun], stage_run_ids: Sequence[int]) -> None:
        self._knows: dict[tuple[str, str], bool] = {}
        self._served: dict[str, bool] = {}
        self._loops: dict[str, list[tuple[UUID, int, int]]] = {}
        self._places: dict[str, int | None] = {}
        leased = WorkSlice.objects.leased().filter(stage_run__run__in=[run.pk for run in runs])
        self.leased = set(leased.order_by().values_list("stage_run__run", flat=True).distinct()) if runs else set()
        late = Ticket.objects.filter(stage_run__in=stage_run_ids, sent_at__lt=Now() - timedelta(seconds=WAITS_SECONDS))
        sent = late.order_by().values_list("stage_run").annotate(since=Min("sent_at")) if stage_run_ids else ()
        self.sent: dict[int, datetime] = dict(sent)

    def serves(self, queue: str) -> bool:
        """Whether a live worker serves ``queue``, as far as they tell."""
        if queue not in self._served:
            self._served[queue] = not unserved.of([queue])
        return self._served[queue]

    def knows(self, queue: str, pipeline: str) -> bool:
        """Whether one of those has ``pipeline`` in its code."""
        if (queue, pipeline) not in self._knows:
            self._knows[queue, pipeline] = serving.knows(queue, pipeline)
        return self._knows[queue, pipeline]

    def places(self, queue: str) -> int | None:
        """How many loops they have room for."""
        if queue not in self._places:
            self._places[queue] = serving.places(queue)
        return self._places[queue]

    def loops(self, queue: str) -> list[tuple[UUID, int, int]]:
        """(run, account, loops) of what runs in ``queue``, the most first."""
        if queue not in self._loops:
            at_work = StageRun.objects.filter(definition__queue=queue, lifecycle=Lifecycle.RUNNING)
            counted = WorkSlice.objects.leased().filter(stage_run__in=at_work).order_by()
            by_run = counted.values_list("stage_run__run", "stage_run__run__account").annotate(loops=Count("pk"))
            self._loops[queue] = list(by_run.order_by("-loops", "stage_run__run"))
        return self._loops[queue]


def _workers(run: AutomationRun, stages: dict[int, Definition], busy: Busy) -> Iterator[IdleReason]:
    queues = sorted({stage.queue for stage in stages.values()})
    nobody = [queue for queue in queues if not busy.serves(queue)]
    for queue in nobody:
        lifted = f"a worker is started that serves the queue {queue}"
        yield IdleReason(outlook.NO_WORKER, unserved.sentence(queue), None, lifted)
    known = installed_code.pipeline_of(run.pipeline)
    name = known.slug if known is not None else run.pipeline
    for queue in queues:
        if queue in nobody:
            continue
        if not busy.knows(queue, name):
            sentence = f"No live worker that serves the queue {queue} knows the pipeline {name}."
            yield IdleReason(outlook.NO_WORKER, sentence, None, "a worker is started that has it in its code")
        else:
            yield from _turn(run, queue, [pk for pk, stage in stages.items() if stage.queue == queue], busy)


def _turn(run: AutomationRun, queue: str, stage_run_ids: Iterable[int], busy: Busy) -> Iterator[IdleReason]:
    """Who runs while messages of ``run`` are out and nobody has taken one."""
    sent = [busy.sent[pk] for pk in stage_run_ids if pk in busy.sent]
    if run.pk in busy.leased or not sent:
        return
    # Runs of other accounts have no names here: readers see none of them.
    loops = [one for one in busy.loops(queue) if one[0] != run.pk]
    others = [(str(pk) if account == run.account_id else "", count) for pk, account, count in loops]
    lifted = (
        "a worker is free; it has its turn within seconds, or when the items in progress have ended if those are long"
    )
    yield IdleReason(NO_FREE_WORKER, _told(queue, busy.places(queue), others), min(sent), lifted)


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


def _at_work(runs: Sequence[AutomationRun]) -> dict[UUID, list[IdleReason]]:
    """What a pause or cancel of each run waits for, once it takes some seconds."""
    if not runs:
        return {}
    long = WorkSlice.objects.leased().filter(stage_run__run__in=[run.pk for run in runs], item_since__isnull=False)
    number = Window(RowNumber(), partition_by="stage_run__run", order_by="item_since")
    rows = long.select_related("stage_run").annotate(number=number).filter(number__lte=MOST_RUNS).order_by("item_since")
    found: dict[UUID, list[IdleReason]] = {}
    now = None
    for row in rows:
        assert row.item_since is not None
        now = now or database_now()
        what = f"Item {row.item_key}" if row.item_key else WorkSlice.Phase(row.phase).label.capitalize()
        seconds = max(0.0, (now - row.item_since).total_seconds())
        worker = owners.name_of(row.lease_owner, row.lease_node)
        end = f"it is ended at {row.item_limit:g} s" if row.item_limit is not None else "it has no time limit"
        sentence = (
            f"{what} of stage {row.stage_run.slug} has been in progress for {seconds:.0f} s on worker {worker}; {end}."
        )
        reason = IdleReason(AT_WORK, sentence, row.item_since, "it is done, or ended")
        found.setdefault(row.stage_run.run_id, []).append(reason)
    return found
