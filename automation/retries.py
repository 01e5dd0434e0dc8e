"""Do the rest of a run again: a new run over the items that failed or were never reached."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from automation import definition, keys, lifecycle, stage_rows, status, transitions
from automation.copying import ITEM
from automation.definition import INPUT, Graph
from automation.errors import TransitionRefused
from automation.leases import SLICE
from automation.models import AutomationRun, Lifecycle, StageRun
from automation.work import ItemFailure, WorkSlice
from pause_manager import audit
from pause_manager.actor import Actor

RETRYABLE = (Lifecycle.COMPLETED, Lifecycle.FAILED)


def retry_failed(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Create and start a run over what ``run_id`` left undone; returns the new run, linked by ``retry_of``.

    Site, pipeline and parameters are the same. Each item that failed in a stage or was not reached by it becomes,
    under its old key, an output of the stage it came from in the new run, so nothing before it is done again. What
    the old run has made stays there. A stage whose ``finish`` was not done is done again as a whole. Where branches
    part, an item that one of them left undone passes through all of them again, and makes the same outputs.

    Raises ``TransitionRefused`` if the run is not completed or failed, left nothing undone, was retried before, or
    still has workers that finish their items.
    """
    with transaction.atomic():
        transitions.lock([str(run_id)])
        old = _retryable(run_id)
        new = AutomationRun.objects.create(
            site=old.site,
            pipeline=old.pipeline,
            lane=old.lane,
            params=old.params,
            created_by=actor.name,
            retry_of=old,
            timeout_seconds=old.timeout_seconds,
        )
        olds = list(old.stages.filter(position__gte=0).order_by("position"))
        try:
            stage_rows.create_again(new, olds)
        except LookupError as unknown:
            raise _refusal(old, f"has a stage {unknown} that is not in this release") from None
        new.total_items = _copy_undone(old, new)
        if not new.total_items:
            raise _refusal(old, "left nothing undone")
        new.save(update_fields=["total_items"])
        figures = {"pipeline": new.pipeline, "total_items": new.total_items, "params": new.params}
        audit.record("create", scope=new.scope, actor=actor, reason=reason, figures=figures | {"retry_of": str(old.pk)})
        audit.record("retry", scope=old.scope, actor=actor, reason=reason, figures={"retried_by": str(new.pk)})
        return lifecycle.start_run(new.pk, actor=actor, reason=reason)


def _retryable(run_id: UUID) -> AutomationRun:
    run: AutomationRun | None = AutomationRun.objects.select_related("site").filter(pk=run_id).first()
    if run is None or run.lifecycle not in RETRYABLE:
        raise transitions.refusal("retry", run_id)
    earlier = AutomationRun.objects.filter(retry_of=run).values_list("pk", flat=True).first()
    if earlier is not None:
        raise _refusal(run, f"was retried before, by run {earlier}")
    if WorkSlice.objects.leased().filter(stage_run__run=run).exists():
        raise _refusal(run, f"is {run.lifecycle} but workers are still finishing items of it")
    return run


def _refusal(run: AutomationRun, fact: str) -> TransitionRefused:
    return TransitionRefused("retry", run.pk, fact, status.of(run))


def _copy_undone(old: AutomationRun, new: AutomationRun) -> int:
    """Copy what is undone to the new run's stages; returns how many items."""
    olds = {stage_run.slug: stage_run for stage_run in old.stages.order_by("position")}
    news = {stage_run.slug: stage_run for stage_run in new.stages.order_by("position")}
    graph = Graph({slug: definition.of(row).after for slug, row in news.items() if slug != INPUT})
    again = {slug for slug, stage_run in olds.items() if _is_to_do_again(stage_run)}
    copied = 0
    forks = any(len(graph.readers(slug)) > 1 for slug in olds)
    for slug, source in olds.items():  # in order of position: an item's ancestors are copied before it
        if slug in again or _comes_again(slug, again, graph):
            continue  # made anew
        readers = graph.readers(slug)
        wholly = any(reader in again or olds[reader].lifecycle == Lifecycle.PENDING for reader in readers)
        with connection.cursor() as cursor:
            cursor.execute(
                _COPY + (_but_not_made_anew(slug, "item.key", graph, news) if forks else ""),
                {
                    "old": source.pk,
                    "new": news[slug].pk,
                    "wholly": wholly,
                    "readers": [olds[reader].pk for reader in readers],
                    "prefixes": [_prefix(slug, reader, graph) for reader in readers],
                },
            )
            copied += cursor.rowcount
            if slug == INPUT:
                StageRun.objects.filter(pk=news[slug].pk).update(total_items=cursor.rowcount)
    return copied


def _is_to_do_again(stage_run: StageRun) -> bool:
    """Whether every item is done but the ``finish`` over all outputs is not."""
    unfinished = stage_run.slices.open()
    phases = set(unfinished.order_by().values_list("phase", flat=True))
    return phases == {WorkSlice.Phase.FINISH}


def _comes_again(slug: str, again: set[str], graph: Graph) -> bool:
    """Whether ``slug`` is fed, however indirectly, by a stage that is done again."""
    if slug == INPUT:
        return False
    sources = graph.predecessors(slug)
    return any(source in again or _comes_again(source, again, graph) for source in sources)


def _prefix(slug: str, reader: str, graph: Graph) -> str:
    """What ``reader`` puts before the keys of items from ``slug``."""
    sources = graph.predecessors(reader)
    return keys.of_source(sources.index(slug)) if len(sources) > 1 else ""


def _but_not_made_anew(slug: str, key: str, graph: Graph, news: dict[str, StageRun]) -> str:
    """SQL that leaves out the outputs of ``slug`` that the new run makes by itself, from an ancestor that it has.

    ``key`` is an SQL expression; an ancestor's key is what is left of it without its last segment.
    """
    if slug == INPUT:
        return ""
    sources = graph.predecessors(slug) or (INPUT,)
    parent = rf"regexp_replace({key}, '\.[^.]*$', '')"
    found = []
    for index, source in enumerate(sources):
        prefix = keys.of_source(index) if len(sources) > 1 else ""
        its_key = f"substr({parent}, {len(prefix) + 1})" if prefix else parent
        is_its = f"starts_with({parent}, '{prefix}') AND " if prefix else ""
        found.append(
            f" AND NOT ({is_its}EXISTS (SELECT 1 FROM {ITEM} AS ancestor "
            f"WHERE ancestor.made_by_id = {news[source].pk} AND ancestor.key = {its_key}))"
        )
        found.append(_but_not_made_anew(source, its_key, graph, news))
    return "".join(found)


_COPY = f"""
    INSERT INTO {ITEM} (made_by_id, key, payload)
    SELECT %(new)s, item.key, item.payload
      FROM {ITEM} AS item
     WHERE item.made_by_id = %(old)s
       AND (%(wholly)s
            OR EXISTS (SELECT 1 FROM {ItemFailure._meta.db_table} AS failure
                         JOIN unnest(%(readers)s::bigint[], %(prefixes)s::text[]) AS reader(id, prefix)
                           ON failure.stage_run_id = reader.id AND failure.key = reader.prefix || item.key)
            OR EXISTS (SELECT 1 FROM {SLICE} AS slice
                        WHERE slice.stage_run_id = ANY(%(readers)s) AND slice.source_id = item.made_by_id
                          AND slice.finished_at IS NULL AND item.key >= slice.first_key
                          AND item.key > slice.cursor AND item.key <= slice.last_key))
"""
