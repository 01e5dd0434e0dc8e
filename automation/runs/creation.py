"""Create a run with its stages and its input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from automation import conf
from automation.errors import InvalidInput, SiteClosed
from automation.inputs import Input
from automation.items import keys, store
from automation.models import AutomationRun, Lifecycle, Site, StageRun
from automation.models.lanes import lock_lane
from automation.pipeline import Payload, Pipeline, get_pipeline, pacing, run_input
from automation.runs import dependencies, lanes, stage_rows, start_conditions
from pause_manager.actor import Actor
from pause_manager.observability import audit

PRIORITIES = range(1, 6)


def create(
    pipeline_slug: str,
    *,
    site: Site,
    actor: Actor,
    params: dict[str, Any] | None = None,
    items: Iterable[Payload] | None = None,
    start: bool = True,
    timeout_seconds: float | None = None,
    is_forced: bool = False,
    priority: int = 3,
    after: Sequence[UUID] = (),
    pace: Mapping[str, Any] | None = None,
) -> AutomationRun:
    """Create a run with its input, all or nothing, and start it if the gate is open (else as soon as it opens).

    It starts once a place in the lane of its site is free for it, by ``priority`` (1 is first, 5 last), and once each
    run of ``after`` has completed.

    ``items`` are JSON objects, or ``None`` for a pipeline that makes its own; for an ``Input`` the event records what
    was read and left out. ``timeout_seconds`` (> 0) is working time; ``None`` takes the timeout of the pipeline. A run
    that ``is_forced`` ignores capacity. ``pace`` are its batches, delays and limits, see ``pipeline.pacing``. Raises
    ``UnknownPipeline``, ``InvalidParams``, ``InvalidPacing``, ``InvalidInput``, ``SiteClosed``, ``DependencyRefused``
    or ``StartRefused``, each naming what was wrong.
    """
    if isinstance(priority, bool) or priority not in PRIORITIES:
        raise InvalidInput(f"Cannot create the run: expected a priority of 1 to 5, got: {priority}.")
    pipeline = get_pipeline(pipeline_slug)
    cleaned = pipeline.clean_params(params or {})
    paced = pacing.clean(pipeline, pace or {})
    payloads = _payloads(pipeline, cleaned, items)
    with transaction.atomic():
        # In the same transaction: if this process dies after it, the reconciler starts the run.
        requested = Now() if start else None
        run = AutomationRun.objects.create(
            site=site,
            pipeline=pipeline.slug,
            lane=site.slug,
            params=cleaned,
            pacing=paced,
            created_by=actor.name,
            start_requested_at=requested,
            timeout_seconds=pipeline.timeout if timeout_seconds is None else timeout_seconds,
            priority=priority,
            ignores_capacity=is_forced,
        )
        lanes.ensure(run.lane)
        refuse_if_closed(site)
        source = stage_rows.create(run, pipeline)
        rows = _Rows(str(source.pk).encode(), payloads, pipeline)
        store.write(rows)
        if not rows.count:
            raise InvalidInput("Cannot create the run: its input has no items.")
        run.total_items = rows.count
        run.save(update_fields=["total_items"])
        StageRun.objects.filter(pk=source.pk).update(total_items=rows.count)
        details: dict[str, Any] = {"pipeline": pipeline.slug, "total_items": rows.count, "params": cleaned}
        made = {"lifecycle": str(Lifecycle.PENDING), "start_requested": start}
        if is_forced:
            details["forced"] = True
        if paced:
            details["pacing"] = paced
        if after:
            # Now that the input is read: nobody waits for these locks longer than for a few rows.
            lock_lane(run.lane)
            details["after"] = [str(pk) for pk in dependencies.declare(run, after)]
        if isinstance(items, Input):
            details["input"] = items.report.figures()
        if start:
            start_conditions.check(run)
        audit.record("create", scope=run.scope, actor=actor, details=details, after=made)
    run.refresh_from_db()
    return lanes.begin_if_open(run, actor=actor) if start else run


def refuse_if_closed(site: Site) -> None:
    """Raise ``SiteClosed`` if the site or its account is closed, and keep it from being closed in this transaction."""
    with connection.cursor() as cursor:
        # The process that closes the site has locked it: read after the wait.
        cursor.execute(f"SELECT 1 FROM {Site._meta.db_table} WHERE id = %s FOR KEY SHARE", [site.pk])
    closed = Site.objects.filter(pk=site.pk).values_list("closed_at", "account__closed_at").get()
    since = next((at for at in closed if at is not None), None)
    if since is not None:
        raise SiteClosed(site.slug, since)


def _payloads(pipeline: type[Pipeline], params: dict[str, Any], items: Iterable[Payload] | None) -> Iterable[Payload]:
    run_input.check_need(pipeline, is_given=items is not None)
    return pipeline.make_items(params) if items is None else items


class _Rows:
    """The COPY rows of a run's input, counted as they are read."""

    def __init__(self, made_by: bytes, payloads: Iterable[Payload], pipeline: type[Pipeline]) -> None:
        self.count = 0
        self._made_by = made_by
        self._payloads = payloads
        self._pipeline = pipeline

    def __iter__(self) -> Iterator[bytes]:
        limit = conf.settings().max_input_items
        for ordinal, payload in enumerate(self._payloads):
            if ordinal >= limit:
                raise InvalidInput(f"Cannot create the run: expected at most {limit:,} items, got more.")
            try:
                encoded = run_input.checked_item(self._pipeline, payload)
            except InvalidInput as error:
                raise InvalidInput(f"Cannot use item {ordinal + 1:,}: {str(error).removesuffix('.')}.") from None
            self.count = ordinal + 1
            yield store.row(self._made_by, keys.segment(ordinal), encoded)
