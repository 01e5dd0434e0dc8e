"""A lane in which a hundred thousand runs wait: nothing that gives a place, or tells who is before whom, walks them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.db.models.functions import Now

from automation import gate
from automation.models import AutomationRun, Lane
from automation.reports import lane_queue
from automation.runs import dependencies, lane_moves, lanes, lifecycle
from tests.support.factories import OPERATOR
from tests.support.lane_runs import in_lane, make_lane, states
from tests.support.query_plans import Explainer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(300)]

WAITING = 100_000
TABLES = ("automation_automationrun", "automation_rundependency", "automation_lane", "pause_manager_hold")


@pytest.fixture
def first(transactional_db: None) -> Iterator[AutomationRun]:
    """The first of the lane, which runs; behind it a real one that waits, and all the others."""
    first, second = in_lane(make_lane("acme"), 2)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO automation_automationrun
                   (id, site_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at,
                    start_requested_at, paused_seconds, priority, ignores_capacity, cancel_requested_by, failure)
            SELECT gen_random_uuid(), site_id, pipeline, lane, '{}', 'pending', 'user:x', 100,
                   now() + n * interval '1 millisecond', now(), 0, 3, false, '', ''
              FROM automation_automationrun AS run, generate_series(1, %s) AS n WHERE run.id = %s
            """,
            [WAITING, second.pk],
        )
        cursor.execute("VACUUM ANALYZE automation_automationrun")
        # In a small database in memory, PostgreSQL's default makes it a matter of luck what is read.
        cursor.execute("SET random_page_cost = 1.1")
        yield first
        cursor.execute("RESET random_page_cost")


def last_of_all() -> AutomationRun:
    return AutomationRun.objects.filter(lane="acme").latest("created_at")


def in_the_line(first: AutomationRun) -> list[tuple[str, Callable[[], object], int]]:
    """What is asked and done, and how many rows of a table each may look at."""
    last, second = last_of_all(), AutomationRun.objects.filter(lane="acme").order_by("created_at")[1]
    return [
        ("fill", lambda: lanes.fill("acme"), 50),
        ("fill_all", lanes.fill_all, 50),
        ("explain the last", lambda: gate.explain(last), 50),
        ("blocked", lambda: gate.blocked([last, second]), 50),
        ("lane_has_active_run", lambda: gate.lane_has_active_run(last.pk), 50),
        ("to the front", lambda: lane_moves.to_front(last.pk, actor=OPERATOR), 50),
        ("dependency", lambda: dependencies.add(last.pk, [first.pk], actor=OPERATOR), 50),
        ("end of the first", lambda: lifecycle.cancel(first.pk, actor=OPERATOR), 50),
    ]


def test_what_gives_a_place_looks_at_few(first):
    explained = Explainer(TABLES)

    for label, call, _ in in_the_line(first):
        with explained.of(label):
            call()

    most = {label: rows for label, _, rows in in_the_line(first)}
    too_much = {str(step) for step in explained.steps if step.rows > most[step.label]}
    assert not too_much, "\n".join(sorted(too_much))
    assert AutomationRun.objects.filter(lane="acme", lifecycle="running").count() == 1
    assert states(first) == ["cancelled"]


def test_the_last_in_line_is_told_its_position_within_a_tenth_of_a_second(first):
    last = last_of_all()
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        place = gate.place_in_line(last)
        best = min(best, time.perf_counter() - began)

    assert place.position == WAITING + 1
    assert best < 0.1, f"{best * 1000:.0f} ms"


def test_the_queue_of_such_a_lane_is_told_in_part(first):
    began = time.perf_counter()
    told = lane_queue.of(Lane.objects.get(name="acme"), at_most=10)

    assert (told.waiting_count, len(told.waiting), told.waiting[9].position) == (WAITING + 1, 10, 10)
    assert time.perf_counter() - began < 5


def test_of_who_waits_far_back_only_the_index_is_read(first):
    last, lane = last_of_all(), Lane.objects.get(name="acme")
    AutomationRun.objects.filter(pk=last.pk).update(paused_at=Now())
    explained = Explainer(TABLES)

    with explained.of("place"):
        place = gate.place_in_line(last)
    with explained.of("queue"):
        told = lane_queue.of(lane, at_most=10)

    assert (place.position, place.expected_start) == (WAITING + 1, None)
    assert (told.waiting_count, told.paused_count) == (WAITING, 1)
    # Whether all of a table are counted by the index or not, is the planner's choice.
    read = {
        str(step)
        for step in explained.steps
        if step.rows > 50
        and step.node != "Index Only Scan"
        and not step.statement.startswith("SELECT (SELECT count(*)")
    }
    assert not read, "\n".join(sorted(read))
