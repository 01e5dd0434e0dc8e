"""Whether the runs flow and succeed: for the health verdict. Every fact is read by an index, or from few rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from automation.gate import file_sharing, standstills
from automation.models.tables import RUN, SLICE, SLICE_TOTALS, STAGE, STANDSTILL, TICKET
from pause_manager import times
from pause_manager.database.reads import rows_of
from pause_manager.database.recent import Recent
from pause_manager.workloads import Finding

LATEST = 200
"""The number of the newest runs that are looked at for what has ended."""
RECENT_HOURS = 24
UNANSWERED_SECONDS = 60.0
MANY_FAILED = 0.1
"""A share of failed items of the running stages above which they are a problem."""


def findings() -> Iterator[Finding]:
    """Five statements."""
    yield from _standing_still()
    yield from _unanswered()
    yield from _failing_loops()
    yield from _failing_items()
    yield from _ended()


def _standing_still() -> Iterator[Finding]:
    told = {
        standstills.CODE_MISSING: (
            "{} for stages that are not in this release.",
            "a deploy without their code",
            "manage.py check_runs lists them; install a release that has the stages, or cancel the runs",
        ),
        file_sharing.NOT_SHARED: (
            "{} because the live workers do not keep files in one place.",
            "workers on several machines with file storage on their own disks",
            file_sharing.LIFTED_BY,
        ),
    }
    for code, runs, since in rows_of(_STANDSTILLS, {"codes": list(told)}):
        sentence, cause, next_step = told[code]
        what = f"{runs:,} run waits" if runs == 1 else f"{runs:,} runs wait"
        yield Finding("flowing", "problem", code, sentence.format(what), cause, next_step, since)


def _unanswered() -> Iterator[Finding]:
    for queue, messages, age, leases in rows_of(_UNANSWERED, {"seconds": UNANSWERED_SECONDS}):
        which = f"{messages:,} message{'' if messages == 1 else 's'} for stages"
        waited = f"{which} in the queue {queue}, the oldest for {times.length(age)}"
        if leases:
            yield Finding(
                "flowing",
                "note",
                "workers_busy",
                f"No worker is free for {waited}; {leases:,} loop{' is' if leases == 1 else 's are'} running.",
                cause="there is more work than workers",
                next_step="nothing, or start more workers",
            )
        else:
            yield Finding(
                "flowing",
                "problem",
                "not_answered",
                f"Nobody takes {waited}, and nothing of that queue is running.",
                cause="its workers are busy with other tasks, hang, or cannot reach the broker",
                next_step="look at the workers' logs; celery inspect active shows what they are on",
            )


def _failing_loops() -> Iterator[Finding]:
    rows = rows_of(_FAILING_LOOPS)
    if rows:
        run, slug, failures, error = rows[0]
        stages = "1 stage" if len(rows) == 1 else f"{len(rows):,} stages"
        yield Finding(
            "succeeding",
            "problem",
            "loops_fail",
            f"The loops of {stages} fail again and again, before any item is done.",
            cause="its set-up fails: a model, a file or a service that is not there; or the code of the stage",
            next_step="manage.py explain_run RUN shows the error; the run fails by itself after as many as it allows",
            detail=f"stage {slug} of run {run}, {failures} in a row: {error[:300]}",
        )


def _failing_items() -> Iterator[Finding]:
    ((processed, failed, stages),) = _items_lately()
    ended = processed + failed
    if not ended:
        return
    if not failed:
        told = f"No item of the {stages:,} running stage{'' if stages == 1 else 's'} has failed."
        yield Finding("succeeding", "good", "items_done", told)
        return
    is_problem = failed > MANY_FAILED * ended
    yield Finding(
        "succeeding",
        "problem" if is_problem else "note",
        "items_fail",
        f"{failed:,} of {ended:,} items of the running stages have failed ({failed / ended:.1%}).",
        cause="their data, the service that the stage calls, or its code",
        next_step="manage.py explain_run RUN, and the failures on the page of the run; retry them when it is mended",
    )
    if not is_problem:
        yield Finding("succeeding", "good", "items_done", f"{processed:,} items of the running stages are done.")


def _ended() -> Iterator[Finding]:
    counts: dict[str, int] = {}
    latest: tuple[datetime, str, str] | None = None
    for run, lifecycle, with_failures, finished_at, failure in rows_of(
        _ENDED, {"limit": LATEST, "hours": RECENT_HOURS}
    ):
        name = "completed_with_failures" if with_failures else lifecycle
        counts[name] = counts.get(name, 0) + 1
        if lifecycle == "failed" and (latest is None or finished_at > latest[0]):
            latest = (finished_at, str(run), failure)
    total = sum(counts.values()) - counts.get("cancelled", 0)
    if not total:
        return
    completed = counts.get("completed", 0)
    if completed == total:
        yield Finding("succeeding", "good", "runs_complete", _all_completed(total))
        return
    partly, failed = counts.get("completed_with_failures", 0), counts.get("failed", 0)
    parts = [f"{completed + partly:,} completed" + (f" ({partly:,} with failed items)" if partly else "")]
    parts += [f"{failed:,} failed"] if failed else []
    yield Finding(
        "succeeding",
        "problem" if failed * 2 >= total else "note",
        "runs_fail",
        f"Of {total:,} runs that ended within a day, {' and '.join(parts)}.",
        cause="the page of a failed run names the error",
        next_step="list them: status failed; retry what failed when it is mended",
        since=latest[0] if latest else None,
        detail=f"the latest failure, run {latest[1]}: {latest[2][:300]}" if latest else "",
    )
    if completed + partly:
        yield Finding("succeeding", "good", "runs_complete", f"{completed + partly:,} of the last {total:,} completed.")


def _all_completed(total: int) -> str:
    return "The last run completed." if total == 1 else f"All of the last {total:,} runs completed."


_STANDSTILLS = f"""
    SELECT code, count(*), min(since) FROM {STANDSTILL}
     WHERE until IS NULL AND code = ANY(%(codes)s) GROUP BY code ORDER BY code
"""

_UNANSWERED = f"""
    SELECT sent.queue, sent.messages, sent.age, (
           SELECT count(*) FROM {SLICE} AS slice JOIN {STAGE} AS stage ON stage.id = slice.stage_run_id
            WHERE slice.lease_token IS NOT NULL AND slice.finished_at IS NULL
              AND stage.definition->>'queue' = sent.queue)
      FROM (SELECT ticket.queue, count(*) AS messages,
                   max(extract(epoch FROM statement_timestamp() - ticket.sent_at))::float8 AS age
              FROM {TICKET} AS ticket
              JOIN {STAGE} AS stage ON stage.id = ticket.stage_run_id
              JOIN {RUN} AS run ON run.id = stage.run_id
             WHERE run.finished_at IS NULL AND run.paused_at IS NULL AND run.cancel_requested_at IS NULL
             GROUP BY ticket.queue) AS sent
     WHERE sent.age > %(seconds)s
       AND NOT EXISTS (SELECT FROM pause_manager_hold
                        WHERE released_at IS NULL AND scope IN ('fleet', 'queue:' || sent.queue))
     ORDER BY sent.queue
"""

_FAILING_LOOPS = f"""
    SELECT run.id, stage.slug, stage.loop_failures, stage.loop_error
      FROM {RUN} AS run JOIN {STAGE} AS stage ON stage.run_id = run.id
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running'
       AND stage.lifecycle = 'running' AND stage.loop_failures > 0
     ORDER BY stage.loop_failures DESC, stage.id LIMIT 1000
"""

_ITEMS = f"""
    SELECT coalesce(sum(totals.processed), 0)::bigint, coalesce(sum(totals.failed), 0)::bigint, count(DISTINCT stage.id)
      FROM {RUN} AS run
      JOIN {STAGE} AS stage ON stage.run_id = run.id AND stage.lifecycle = 'running'
      JOIN {SLICE_TOTALS} AS totals ON totals.stage_run_id = stage.id
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running'
"""

_items_lately = Recent(lambda: rows_of(_ITEMS), lambda rows: int(rows[0][2]), large=4_000)
"""Of running stages; where they are many, of some seconds ago."""

_ENDED = f"""
    SELECT id, lifecycle, failed_items > 0, finished_at, failure
      FROM (SELECT id, lifecycle, failed_items, finished_at, failure FROM {RUN}
             WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT %(limit)s) AS newest
     WHERE finished_at > statement_timestamp() - make_interval(hours => %(hours)s)
"""
