"""Slices for agents: those an agent may hold, those it holds, and the next one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from django.db import connection, transaction

from automation import gate, leases
from automation.agents import permits
from automation.agents.jobs import LARGEST_PAGE, Job
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.gate import delays, installed_code
from automation.gate.loop_limit import LOOP_LIMIT
from automation.items.leased_slice import LeasedSlice
from automation.leases.holders import Worker
from automation.models import Agent, StageRun, WorkSlice
from automation.models.tables import RUN, SLICE, STAGE
from automation.models.work import SliceQuerySet
from automation.pipeline import AGENT, definition
from automation.pipeline.definition import INTERFACE
from automation.runs import unfit_params
from pause_manager import nodes
from pause_manager.capacity.snapshot import NodeView
from pause_manager.nodes import watching
from pause_manager.observability import gate_health

OWNER = "agent:"
"""Prefix of lease owners that are agents."""
MOST_TRIED = 20
"""Stages tried per claim."""


def owner_of(agent: Agent) -> str:
    """The name of the lease owner; the id of a claim follows after a slash."""
    return OWNER + agent.name


def visible_to(agent: Agent) -> SliceQuerySet:
    """The slices of the runs that ``agent`` may work for, with stage run and run."""
    slices: SliceQuerySet = WorkSlice.objects.filter(
        stage_run__run__account=agent.account_id, stage_run__run__pipeline__in=installed_code.aliases(agent.pipelines)
    ).select_related("stage_run__run")
    return slices if agent.site_id is None else slices.filter(stage_run__run__site=agent.site_id)


def held_by(agent: Agent, slice_id: int, token: int) -> LeasedSlice | None:
    """The slice if ``agent`` holds it under ``token``, locked until the caller's transaction ends."""
    return leases.leased_by(slice_id, token, owner_of(agent))


def find(agent: Agent, *, claim_id: str, stages: Sequence[str], view: NodeView | None) -> tuple[Job | None, str]:
    """Lease a job of the most urgent run for ``agent``; or ``None`` with what its node lacks, if that is the reason."""
    owner = f"{owner_of(agent)}/{claim_id}" if claim_id else owner_of(agent)
    if claim_id and (known := _claimed_before(agent, owner)):
        return known, ""
    why = ""
    sample = nodes.latest(agent.node) if watching.is_watched() else None
    for stage_run in candidates(agent, stages):
        if unfit_params.hold_if_unfit(stage_run.run):
            continue
        needs = definition.of(stage_run).needs
        room = partial(
            admission.room_here,
            needs=needs,
            pipeline=stage_run.run.pipeline,
            told=view,
            sample=sample,
            run_id=stage_run.run_id,
        )
        try:
            work = leases.claim(
                stage_run.pk,
                Worker(owner, agent.node),
                room=None if stage_run.run.ignores_capacity else room,
            )
        except NoRoom as full:
            why = why or str(full)
            continue
        if work is None:
            continue
        may_begin, stop = permits.draw(stage_run, work, 1)
        if may_begin:
            starts, stop = permits.take_start(definition.of(stage_run), LARGEST_PAGE)
            if starts:
                return Job(agent, stage_run, work, starts=starts), ""
        leases.release(work)
        why = why or (stop.sentence if stop is not None else "")
    return None, why


def _claimed_before(agent: Agent, owner: str) -> Job | None:
    """The job of an earlier claim whose response was lost."""
    row = visible_to(agent).leased().filter(lease_owner=owner).first()
    if row is None or row.lease_token is None:
        return None
    with transaction.atomic():
        work = held_by(agent, row.pk, row.lease_token)
        if work is None:
            return None
        starts = permits.taken_before(definition.of(row.stage_run), LARGEST_PAGE)
        job = Job(agent, row.stage_run, work, starts=starts)
        job.keep()
        return job


def candidates(agent: Agent, stages: Sequence[str] = ()) -> Iterator[StageRun]:
    """Stages with a due slice, an open gate and room for one more loop, the most urgent first."""
    with connection.cursor() as cursor, gate_health.counted("gate"):
        cursor.execute(
            _DUE,
            {
                "pipelines": installed_code.aliases(agent.pipelines),
                "stages": list(stages) or None,
                "account": agent.account_id,
                "site": agent.site_id,
                "limit": MOST_TRIED,
                **gate.values(),
            },
        )
        ids = [row[0] for row in cursor.fetchall()]
    known = StageRun.objects.select_related("run").in_bulk(ids)
    yield from (known[pk] for pk in ids if pk in known)


_DUE = f"""
    SELECT stage.id
      FROM {STAGE} AS stage
      JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE stage.lifecycle = 'running' AND run.account_id = %(account)s
       AND run.pipeline = ANY(%(pipelines)s::text[]) AND {INTERFACE} = '{AGENT}'
       AND (%(stages)s::text[] IS NULL OR stage.slug = ANY(%(stages)s::text[]))
       AND (%(site)s::bigint IS NULL OR run.site_id = %(site)s) AND {gate.OPEN}
       AND EXISTS (
            SELECT 1 FROM {SLICE} WHERE stage_run_id = stage.id AND finished_at IS NULL AND lease_token IS NULL
               AND (available_at IS NULL OR available_at <= statement_timestamp())
               AND (is_begun OR {delays.HANDS_OUT}))
       AND ({LOOP_LIMIT} IS NULL OR {LOOP_LIMIT} > (
            SELECT count(*) FROM {SLICE}
             WHERE stage_run_id = stage.id AND lease_token IS NOT NULL AND finished_at IS NULL))
     ORDER BY run.priority, run.started_at, stage.id LIMIT %(limit)s
"""
