"""What the gate costs while 100,000 runs wait: a claim, the queue, and why a run waits with its place in line.

A fifth wait for places of one resource, two fifths in one lane, two fifths in 1,000 others; of five priorities, and
each tenth after another run. The peer is the same with 100 runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.harness import Claim, percentile, system

if TYPE_CHECKING:
    from automation.models import AutomationRun

MANY, FEW = 100_000, 100
CLAIMS, LOOKS, SLOW_LOOKS = 300, 20, 5
FULL, ROOMY = "bench-model", "bench-storage"
"""Resources: all places of the first are taken."""
PLACES = 8
LANES = 1_000


def main() -> list[Claim]:
    """Both sizes one after the other in one database."""
    with system():
        few = _measure(FEW)
        many = _measure(MANY)
    return [
        Claim(
            name,
            percentile(many[name].wall, share),
            percentile(few[name].wall, share),
            "ms",
            must,
            aim,
            of_ratio=False,
            is_larger_better=False,
            note=f"{label}; {MANY:,} runs wait (ours), {FEW} (peer); processor time of both sides "
            f"{percentile(many[name].processor, share):.1f} ms and {percentile(few[name].processor, share):.1f} ms",
        )
        for name, must, aim in LIMITS
        for share, label in ((0.5, "p50"), (0.95, "p95"))
    ]


class Spent(NamedTuple):
    """Milliseconds of each call; ``processor`` does not feel what else the machine does."""

    wall: list[float]
    processor: list[float]


LIMITS = (
    ("claim of a slice of a lane", 5, 2),
    ("claim of a slice that uses a limited resource", 5, 3),
    ("explain with the position, the last of a long lane", 100, 50),
    ("explain with the position, the last before a resource", 100, 50),
    ("the queue of a long lane, its first 100", 1_000, 500),
    ("the queue of a short lane", 100, 50),
    ("who is first before a resource", 100, 50),
    ("who of 100 runs is kept, for a list", 100, 50),
    ("a snapshot of a run in line", 100, 20),
)


class _Filled(NamedTuple):
    at_work: AutomationRun
    using: AutomationRun
    last_in_lane: AutomationRun
    last_before: AutomationRun


def _measure(count: int) -> dict[str, Spent]:
    from automation import gate, leases
    from automation.gate import resource_line
    from automation.leases.holders import Worker
    from automation.models import AutomationRun, Lane
    from automation.reports import explanation, lane_queue, progress

    filled = _fill(count)

    def claim(run: AutomationRun) -> Callable[[], object]:
        stage_run = run.stages.get(position=0).pk

        def once() -> object:
            work = leases.claim(stage_run, Worker("benchmark", "benchmark"))
            assert work is not None
            return work

        return once

    def release(work: Any) -> None:
        leases.release(work)

    listed = list(AutomationRun.objects.filter(lane="long").order_by("-created_at")[:100])
    long, short = Lane.objects.get(name="long"), Lane.objects.get(name="lane-1")
    calls: list[tuple[Callable[[], object], int, Callable[[Any], None] | None]] = [
        (claim(filled.at_work), CLAIMS, release),
        (claim(filled.using), CLAIMS, release),
        (lambda: explanation.of_run(filled.last_in_lane), LOOKS, None),
        (lambda: explanation.of_run(filled.last_before), LOOKS, None),
        (lambda: lane_queue.of(long), SLOW_LOOKS, None),
        (lambda: lane_queue.of(short), LOOKS, None),
        (lambda: resource_line.first(FULL, 20), LOOKS, None),
        (lambda: gate.blocked(listed), LOOKS, None),
        (lambda: progress.snapshot(filled.last_before), LOOKS, None),
    ]
    return {name: _timed(call, times, after) for (name, _, _), (call, times, after) in zip(LIMITS, calls, strict=True)}


def _timed(call: Callable[[], object], times: int, after: Callable[[Any], None] | None) -> Spent:
    """Of each call but the first."""
    spent = Spent([], [])
    for _ in range(times + 1):
        begun, used = time.perf_counter(), _processor_ms()
        result = call()
        spent.wall.append((time.perf_counter() - begun) * 1_000)
        spent.processor.append(_processor_ms() - used)
        if after is not None:
            after(result)
    return Spent(spent.wall[1:], spent.processor[1:])


def _processor_ms() -> float:
    """What this thread and its process of PostgreSQL have used of a processor."""
    from django.db import connection

    connection.ensure_connection()
    assert connection.connection is not None
    text = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat").read_text()
    return time.thread_time() * 1_000 + int(text.split()[0]) / 1e6


def _fill(count: int) -> _Filled:
    from django.db import connection

    from automation.models import AutomationRun
    from automation.pipeline import definition, get_pipeline
    from pause_manager import resources
    from pause_manager.actor import Actor

    pipeline = get_pipeline("bench-uses")
    [stage] = pipeline.stages
    kept = {uses: asdict(definition.declared(pipeline, stage, {"uses": uses})) for uses in (0, 1)}
    values: dict[str, Any] = {
        "before": count // 5,
        "in_lane": count * 2 // 5,
        "elsewhere": count * 2 // 5,
        "lanes": min(LANES, max(1, count // 50)),
        "plain": json.dumps(kept[0]),
        "full": json.dumps(kept[1] | {"uses": [FULL]}),
        "roomy": json.dumps(kept[1] | {"uses": [ROOMY]}),
    }
    for name in (FULL, ROOMY):
        resources.set_limits(name, {"max_at_once": PLACES}, actor=Actor("system", "benchmark"))
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        for statement in _STATEMENTS:
            cursor.execute(statement, values)
        cursor.execute("VACUUM ANALYZE")
    runs = AutomationRun.objects.order_by("priority", "created_at")
    lined_up = {lane: runs.filter(lane__startswith=lane).reverse()[0] for lane in ("long", "before")}
    at_work, using = runs.filter(lane="at-work", priority__lt=3)
    return _Filled(at_work, using, lined_up["long"], lined_up["before"])


_RUNS = """
    INSERT INTO automation_automationrun
           (id, site_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at, start_requested_at,
            started_at, lane_seat_at, paused_seconds, priority, ignores_capacity, cancel_requested_by, failure)
    SELECT gen_random_uuid(), site.id, 'bench-uses', lane, '{{"items": 1, "uses": 1}}',
           CASE WHEN has_place THEN 'running' ELSE 'pending' END, 'user:x', 100,
           now() + n * interval '1 millisecond', now(), CASE WHEN has_place THEN now() END,
           CASE WHEN has_place THEN now() END, 0, priority, false, '', ''
      FROM automation_site AS site
     CROSS JOIN ({rows}) AS made(n, lane, priority, has_place) WHERE site.slug = 'bench'
"""
_STATEMENTS = (
    "TRUNCATE automation_automationrun, automation_site, automation_account, automation_lane CASCADE",
    "INSERT INTO automation_account (name) VALUES ('bench')",
    "INSERT INTO automation_site (account_id, slug, name) SELECT id, 'bench', 'bench' FROM automation_account",
    """
    INSERT INTO automation_lane (name, width, policy)
    SELECT name, 1, CASE WHEN n %% 3 = 0 THEN 'skip_parked' ELSE 'strict' END
      FROM (SELECT 'lane-' || n, n FROM generate_series(1, %(lanes)s) AS n UNION ALL SELECT 'long', 1) AS made(name, n)
    """,
    # Of priority 1 the one without a resource, of 2 the one with; of 3 those that have all places of the full one.
    _RUNS.format(rows="SELECT n, 'at-work', least(n, 3), true FROM generate_series(1, 10) AS n"),
    _RUNS.format(rows="SELECT n, 'before-' || n %% 100, 1 + n %% 5, true FROM generate_series(1, %(before)s) AS n"),
    _RUNS.format(rows="SELECT n, 'long', 1 + n %% 5, n = 0 FROM generate_series(0, %(in_lane)s) AS n"),
    _RUNS.format(
        rows="SELECT n, 'lane-' || 1 + n %% %(lanes)s, 1 + n %% 5, n < %(lanes)s"
        "  FROM generate_series(0, %(elsewhere)s + %(lanes)s - 1) AS n"
    ),
    "ANALYZE automation_automationrun",
    """
    INSERT INTO automation_rundependency (run_id, after_id)
    SELECT run.id, other.id
      FROM (SELECT id, row_number() OVER (ORDER BY created_at) AS n FROM automation_automationrun
             WHERE lifecycle = 'pending') AS run
      JOIN automation_automationrun AS other ON other.lane = 'at-work' AND other.priority = 1
     WHERE run.n %% 10 = 0
    """,
    """
    INSERT INTO automation_stagerun
           (run_id, slug, position, lifecycle, total_items, started_at, finished_at, paused_seconds_at_start,
            paused_seconds_at_end, definition)
    SELECT run.id, stage.slug, stage.position,
           CASE WHEN stage.position < 0 THEN 'completed' ELSE run.lifecycle END,
           CASE WHEN stage.position < 0 OR run.lifecycle = 'running' THEN 100 END, run.started_at,
           CASE WHEN stage.position < 0 THEN now() END, 0, 0,
           CASE WHEN stage.position < 0 THEN '{}'
                WHEN run.lane = 'at-work' AND run.priority = 2 THEN %(roomy)s::jsonb
                WHEN run.lane LIKE 'before-%%' OR (run.lane = 'at-work' AND run.priority = 3) THEN %(full)s::jsonb
                ELSE %(plain)s::jsonb END
      FROM automation_automationrun AS run CROSS JOIN (VALUES ('input', -1), ('noop', 0)) AS stage(slug, position)
    """,
    "ANALYZE automation_stagerun",
    """
    INSERT INTO automation_workslice
           (stage_run_id, phase, ordinal, source_id, first_key, last_key, size, cursor, processed, failed,
            busy_seconds, crashes, lease_owner, lease_node, lease_gpus, lease_yield,
            lease_token, leased_at, lease_expires_at)
    SELECT work.id, 1, n, input.id, lpad(n::text, 7, '0'), lpad(n::text, 7, '0'), 1, '', 0, 0, 0, 0, '', '', '{}', '',
           CASE WHEN is_held THEN nextval('automation_lease_token') END, CASE WHEN is_held THEN now() END,
           CASE WHEN is_held THEN now() + interval '1 day' END
      FROM automation_stagerun AS work
      JOIN automation_stagerun AS input ON input.run_id = work.run_id AND input.position = -1
      JOIN automation_automationrun AS run ON run.id = work.run_id
     CROSS JOIN LATERAL (SELECT run.lane = 'at-work' AND run.priority = 3 AS is_held) AS held
     CROSS JOIN LATERAL generate_series(1, CASE WHEN run.lane = 'at-work' AND NOT is_held THEN 400 ELSE 1 END) AS n
     WHERE work.position = 0 AND work.lifecycle = 'running'
    """,
)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
