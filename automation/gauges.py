"""The gauges of the engine: runs by status, slices, messages in flight. Nothing here reads finished rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import Metric

from automation import agents
from automation.gate import pending
from automation.models.tables import QUESTION, RUN, SLICE, TICKET
from automation.reports import status
from automation.reports.slice_totals import WAITING
from pause_manager.database.reads import rows_of
from pause_manager.observability.exposition import gauge, register

RUNS = f"""
    SELECT pipeline, lifecycle, is_cancelling, is_held, is_leased, is_kept, count(*), max(held_seconds)
      FROM (SELECT run.pipeline, run.lifecycle, run.cancel_requested_at IS NOT NULL AS is_cancelling,
                   run.paused_at IS NOT NULL AS is_held,
                   run.paused_at IS NOT NULL AND {pending.IS_LEASED} AS is_leased,
                   {pending.IS_KEPT} AS is_kept,
                   extract(epoch FROM statement_timestamp() - run.paused_at)::float8 AS held_seconds
              FROM {RUN} AS run WHERE run.finished_at IS NULL) AS unfinished
     GROUP BY 1, 2, 3, 4, 5, 6
"""
OPEN = f"SELECT coalesce(sum(due), 0)::bigint, coalesce(sum(later), 0)::bigint FROM ({WAITING}) AS waiting"
LEASED = f"""
    SELECT count(*) FILTER (WHERE lease_expires_at >= statement_timestamp()),
           count(*) FILTER (WHERE lease_expires_at < statement_timestamp())
      FROM {SLICE} WHERE lease_token IS NOT NULL AND finished_at IS NULL
"""
QUESTIONS = f"""
    SELECT run.pipeline, count(*), max(extract(epoch FROM statement_timestamp() - question.asked_at))::float8
      FROM {QUESTION} AS question JOIN {RUN} AS run ON run.id = question.run_id
     WHERE question.answered_at IS NULL AND question.closed_at IS NULL
     GROUP BY 1
"""
MESSAGES = f"""
    SELECT queue, count(*), max(extract(epoch FROM statement_timestamp() - sent_at))::float8
      FROM {TICKET} GROUP BY 1
"""
STATEMENTS = (RUNS, QUESTIONS, OPEN, LEASED, MESSAGES, agents.MEMBERS)

UNFINISHED = tuple(name for name in status.ALL if name not in status.FINAL)


@register("runs")
def _runs() -> Iterable[Metric]:
    """Unfinished runs by derived status. Final runs are counted as events."""
    count = gauge("slackwater_runs", "Runs that are not final, by status and pipeline.", "status", "pipeline")
    oldest = gauge(
        "slackwater_pausing_oldest_age_seconds",
        "Age of the oldest pause whose run still has work in progress; 0 if there is none.",
    )
    found: Counter[tuple[str, str]] = Counter()
    longest = 0.0
    for pipeline, lifecycle, is_cancelling, is_held, is_leased, is_kept, runs, held_seconds in rows_of(
        RUNS, pending.values()
    ):
        name = status.derive(
            lifecycle,
            is_held=is_held,
            is_cancel_requested=is_cancelling,
            is_leased=is_leased,
            has_reasons=is_kept,
        )
        found[name, pipeline] += runs
        if name == status.PAUSING:
            longest = max(longest, held_seconds)
    for pipeline in sorted({pipeline for _, pipeline in found}):
        for name in UNFINISHED:
            count.add_metric([name, pipeline], found[name, pipeline])
    oldest.add_metric([], longest)
    return count, oldest


@register("questions")
def _questions() -> Iterable[Metric]:
    """What people are asked and have not answered."""
    count = gauge("slackwater_questions", "Questions of runs that wait for an answer, by pipeline.", "pipeline")
    oldest = gauge(
        "slackwater_question_oldest_age_seconds",
        "Age of the oldest of these questions.",
        "pipeline",
    )
    for pipeline, asked, age in rows_of(QUESTIONS):
        count.add_metric([pipeline], asked)
        oldest.add_metric([pipeline], age)
    return count, oldest


@register("slices")
def _slices() -> Iterable[Metric]:
    slices = gauge(
        "slackwater_slices",
        "Slices with work left: due, later (they wait for a time), leased, stale (their lease has expired).",
        "state",
    )
    messages = gauge("slackwater_messages", "Messages sent to workers and not answered yet, by queue.", "queue")
    oldest = gauge(
        "slackwater_message_oldest_age_seconds",
        "Age of the oldest of these messages, by queue.",
        "queue",
    )
    ((due, later),) = rows_of(OPEN)
    ((leased, stale),) = rows_of(LEASED)
    for state, value in (("due", due), ("later", later), ("leased", leased), ("stale", stale)):
        slices.add_metric([state], value)
    for queue, sent, age in rows_of(MESSAGES):
        messages.add_metric([queue], sent)
        oldest.add_metric([queue], age)
    return slices, messages, oldest
