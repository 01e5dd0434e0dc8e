"""Jobs: slices as agents see them, with keys, payloads and intervals, without status or locks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import orjson

from automation import conf, gate, leases
from automation.agents import permits
from automation.gate import installed_code
from automation.items import units
from automation.items.answers import Answers
from automation.items.leased_slice import LeasedSlice
from automation.leases.checkpoint import INTERVAL_SECONDS
from automation.models import Agent, AutomationRun, StageRun, WorkSlice
from automation.pipeline import definition
from automation.pipeline.definition import Definition
from pause_manager.holds.stops import Stop, quiesced

PAGE, LARGEST_PAGE = 500, 2_000
PAGE_BYTES = 1 << 20
"""A page ends after the item that makes it larger than this."""


@dataclass
class Job:
    """A slice that ``agent`` holds, or has finished."""

    agent: Agent
    stage_run: StageRun
    work: LeasedSlice
    is_finished: bool = False
    starts: int | None = None
    """How many items may start that have not been handed out; ``None``: it is not known yet."""

    @classmethod
    def finished(cls, agent: Agent, stage_run: StageRun, row: WorkSlice, token: int) -> Job:
        """The job of a slice that was finished under ``token``."""
        work = LeasedSlice(
            slice_id=row.pk,
            token=token,
            stage_run_id=stage_run.pk,
            phase=row.phase,
            source_id=row.source_id,
            first_key=row.first_key,
            last_key=row.last_key,
            cursor=row.cursor,
            size=row.size,
            crashes=0,
            gpus=[],
        )
        return cls(agent, stage_run, work, is_finished=True)

    @property
    def run(self) -> AutomationRun:
        return self.stage_run.run

    @cached_property
    def stage(self) -> Definition:
        return definition.of(self.stage_run)

    @cached_property
    def prefix(self) -> str:
        """The prefix of its keys, where the stage has several sources."""
        assert self.work.source_id is not None
        return units.prefix_of(self.stage_run, self.work.source_id)

    @property
    def cursor(self) -> str:
        """The key of the last committed item; empty at the start."""
        return self.prefix + self.work.cursor if self.work.cursor else ""

    @property
    def last_key(self) -> str:
        return self.prefix + self.work.last_key

    @property
    def scopes(self) -> list[str]:
        """Every scope whose holds cover it."""
        return gate.covering_scopes(self.run, self.stage, node=self.agent.node)

    def keep(self) -> Stop | None:
        """Extend the lease; returns the reason to stop at the next item, if there is one."""
        stop = leases.heartbeat(self.work)
        return stop or next(iter(quiesced(self.scopes).values()), None)

    @property
    def _checkpoint_seconds(self) -> float:
        if self.work.needs_care:
            return 0.0  # After a crash the cursor must be right before the culprit, in case it kills again.
        declared = self.stage.checkpoint_interval
        return INTERVAL_SECONDS if declared is None else declared

    def as_dict(self, limit: int | None = None) -> dict[str, Any]:
        """Everything an agent needs to begin, with the first ``limit`` items."""
        settings, page = conf.settings(), page_of(self, limit=limit)
        return {
            "id": self.work.slice_id,
            "token": self.work.token,
            "run": str(self.run.pk),
            "pipeline": self.run.pipeline,
            "stage": self.stage_run.slug,
            "params": installed_code.params_of(self.run),
            "items": page["items"],
            "more": page["more"],
            "cursor": self.cursor,
            "lastKey": self.last_key,
            "gpus": self.work.gpus,
            "leaseSeconds": settings.lease_seconds,
            "heartbeatSeconds": settings.heartbeat_seconds,
            "checkpointInterval": self._checkpoint_seconds,
            "retries": self.stage.retries,
            "retryBackoff": self.stage.retry_backoff,
        }


def page_of(job: Job, *, after: str = "", limit: int | None = None) -> dict[str, Any]:
    """``{"items": [{"key", "payload"}], "more": bool, "stop"}``: the uncommitted items after ``after``.

    As many of them as may begin; ``stop`` says why there are none, though there is more.
    """
    # Keys sort by their bytes, here as in the database.
    position = max(after.removeprefix(job.prefix), job.work.cursor)
    found = list(_page(job, replace(job.work, cursor=position), min(limit or PAGE, LARGEST_PAGE)))
    more = bool(found) and found[-1]["key"] != job.last_key
    if not found or job.is_finished:
        return {"items": found, "more": more, "stop": None}
    before = permits.begun(job.work, position)
    may, stop = permits.draw(job.stage_run, job.work, before + len(found))
    allowed = found[: max(0, may - before)]
    if job.starts is None:
        job.starts, late = permits.take_start(job.stage, len(allowed))
        stop = late or stop
    allowed = allowed[: job.starts]
    return {"items": allowed, "more": more or len(allowed) < len(found), "stop": None if allowed else stop}


def _page(job: Job, work: LeasedSlice, limit: int) -> Iterator[dict[str, Any]]:
    size = 0
    answers = Answers(work, job.stage_run)
    for count, unit in enumerate(units.units_of(work, job.stage_run), 1):
        given = answers.of(unit.key)
        told = {"answer": list(given.values())[-1], "answers": dict(given)} if given else {}
        yield {"key": unit.key, "payload": unit.given, **told}
        size += len(orjson.dumps(unit.given))
        if count >= limit or size >= PAGE_BYTES:
            return
