"""The line before a resource: who gets the next place, the position that everybody is told, and the expected start."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.utils import timezone

from automation import dispatch, gate, leases
from automation.agents import explanation as of_agent
from automation.dispatch import turns
from automation.gate import resource_line
from automation.items.leased_slice import LeasedSlice
from automation.models import Agent, AutomationRun, StageRun, Ticket
from automation.reports import explanation
from automation.runs import lifecycle
from pause_manager import holds, resources
from pause_manager.actor import Actor
from pause_manager.models import PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.pause_queue import explanation as of_entry
from pause_manager.resources import report
from tests.support import provider_pipelines
from tests.support.api_users import client_of, make_user
from tests.support.factories import OPERATOR, leased, make_run, stage_of
from tests.support.lane_runs import again

pytestmark = pytest.mark.django_db(transaction=True)
assert provider_pipelines

LINE = "/api/v1/resources/provider/line/"


@pytest.fixture(autouse=True)
def one_place() -> None:
    resources.set_limits("provider", {"max_at_once": 1}, actor=OPERATOR)


@pytest.fixture
def at_work() -> tuple[AutomationRun, LeasedSlice]:
    """A run that has had a turn and has the only place; no messages are out."""
    run = make_run("ask", items=9)
    turns.answer(Ticket.objects.filter(stage_run__run=run).values_list("pk", flat=True)[0])
    work = leased(run)
    Ticket.objects.all().delete()
    return run, work


def waiting(count: int, **options: Any) -> list[AutomationRun]:
    runs = [make_run("ask", items=9, **options) for _ in range(count)]
    Ticket.objects.all().delete()
    return runs


def positions(*runs: AutomationRun) -> list[int | None]:
    return [explanation.of_run(again(run)).position for run in runs]


def go_on(ended: tuple[AutomationRun, LeasedSlice]) -> tuple[AutomationRun, LeasedSlice]:
    """The loop of a run ends, is dispatched as a worker does, and the worker that comes takes a slice."""
    run, work = ended
    leases.release(work)
    dispatch.dispatch([stage_of(run).pk])
    ticket = Ticket.objects.order_by("pk").first()
    assert ticket is not None
    found = turns.answer(ticket.pk)
    assert found is not None
    next_one = StageRun.objects.select_related("run").get(pk=found).run
    got = leased(next_one)
    Ticket.objects.all().delete()
    return next_one, got


@pytest.mark.req("S-12")
def test_places_go_to_the_first_in_line_and_the_others_move_up(at_work):
    first, second, third = waiting(3)
    (urgent,) = waiting(1, priority=1)
    assert positions(at_work[0], urgent, first, second, third) == [None, 1, 2, 3, 4]

    turn = go_on(at_work)
    assert turn[0] == urgent
    assert positions(urgent, first, second, third, at_work[0]) == [None, 1, 2, 3, 4]

    turn = go_on(turn)
    assert turn[0] == urgent, "it is more urgent still, and has work left"
    AutomationRun.objects.filter(pk=urgent.pk).update(priority=3)
    turn = go_on(turn)
    assert turn[0] == first
    assert positions(first, second, third, at_work[0], urgent) == [None, 1, 2, 3, 4]


def test_who_has_had_the_place_does_not_get_it_again_before_those_who_wait(at_work):
    first, second = waiting(2)

    turn = go_on(at_work)
    assert turn[0] == first
    assert positions(second, at_work[0]) == [1, 2]
    turn = go_on(turn)
    assert turn[0] == second
    assert positions(at_work[0], first) == [1, 2]
    assert go_on(turn)[0] == at_work[0]


def test_no_more_messages_are_sent_than_places_and_to_the_first(at_work):
    runs = waiting(4)
    resources.set_limits("provider", {"max_at_once": 3}, actor=OPERATOR)
    Ticket.objects.all().delete()

    assert dispatch.dispatch() == 2

    assert [ticket.stage_run.run_id for ticket in Ticket.objects.order_by("pk")] == [runs[0].pk, runs[1].pk]


def test_held_ones_do_not_count(at_work):
    paused, of_lane, of_queue, first, last = waiting(5)
    lifecycle.pause(paused.pk, actor=OPERATOR)
    AutomationRun.objects.filter(pk=of_lane.pk).update(lane="elsewhere")
    holds.place(["lane:elsewhere"], actor=OPERATOR, reason="moving")
    stage = stage_of(of_queue)
    assert stage.definition is not None
    StageRun.objects.filter(pk=stage.pk).update(definition={**stage.definition, "queue": "gpu"})
    holds.place(["queue:gpu"], actor=OPERATOR, reason="demo")

    assert positions(first, last) == [1, 2]
    assert [one.run_id for one in resource_line.first("provider", 10)] == [first.pk, last.pk]

    lifecycle.resume(paused.pk, actor=OPERATOR)
    holds.release(["lane:elsewhere", "queue:gpu"], actor=OPERATOR)
    Ticket.objects.all().delete()

    assert positions(paused, of_lane, of_queue, first, last) == [1, 2, 3, 4, 5]


def test_a_run_in_line_is_one_that_a_claim_would_give_work_if_the_resource_let_it(at_work):
    runs = waiting(4)
    lifecycle.pause(runs[0].pk, actor=OPERATOR)
    AutomationRun.objects.filter(pk=runs[1].pk).update(pipeline="gone")
    in_line = {one.run_id for one in resource_line.first("provider", 10)}

    resources.set_limits("provider", {"max_at_once": None}, actor=OPERATOR)

    assert in_line == {run.pk for run in runs if gate.may_start(again(run))} == {runs[2].pk, runs[3].pk}


def test_the_start_is_expected_from_measured_turns_or_not_at_all(at_work):
    first, second = waiting(2)
    assert [explanation.of_run(run).expected_start for run in (first, second)] == [None, None]

    # Six runs have had a turn within the last minute.
    for number, run in enumerate(waiting(6, priority=5), start=1):
        ago = timezone.now() - timedelta(seconds=10 * number)
        StageRun.objects.filter(pk=stage_of(run).pk).update(turn_at=ago)

    told = [explanation.of_run(run) for run in (first, second)]
    now = timezone.now()
    waits = [one.expected_start - now for one in told if one.expected_start is not None]
    assert [one.position for one in told] == [1, 2]
    assert [round(wait.total_seconds() / 10) for wait in waits] == [1, 2]
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")
    assert explanation.of_run(first).expected_start is None, "nobody knows for how long it is held"


def test_of_one_that_said_too_much_the_first_is_expected_when_it_is_asked_again(at_work):
    first, second = waiting(2)
    leases.release(at_work[1])
    lifecycle.pause(at_work[0].pk, actor=OPERATOR)
    until = resources.throttle("provider", 300, actor=Actor("stage:ask/ask", "worker"), told="stage ask of ask").until

    told = [explanation.of_run(again(run)) for run in (first, second)]

    assert [one.reasons[0].code for one in told] == ["throttled", "throttled"]
    assert [(one.position, one.expected_start) for one in told] == [(1, until), (2, None)]
    holds.place(["resource:provider"], actor=OPERATOR, reason="the bill")
    assert explanation.of_run(again(first)).expected_start is None


def test_stages_of_agents_have_a_line_of_their_own_and_an_agent_is_told_it(at_work):
    first, second = (make_run("ask-remote", items=4) for _ in range(2))
    (of_workers,) = waiting(1)
    agent = Agent.objects.create(
        name="a", account=first.site.account, pipelines=["ask-remote"], token_hash="1", node="box", last_seen_at=Now()
    )

    assert positions(first, second, of_workers) == [1, 2, 1]
    told = of_agent.explain(Agent.objects.get(pk=agent.pk))
    assert (told.position, told.reasons[-1].figures) == (1, {"run": str(first.pk)})


def entry(ref: str, **values: Any) -> PauseQueueEntry:
    known = {"task_name": "render", "queue": "gpu", "work_queue": "gpu", "reason": "full", "message": {}}
    known |= {"waits_for": "hold", "uses": ["provider"]}
    return PauseQueueEntry.objects.create(ref=ref, **{**known, **values})


def test_parked_tasks_are_told_their_place_the_limit_and_when_they_may_start(at_work):
    members.acknowledge("w1", node="n1", queues=["gpu"], version=0)
    some = [entry(f"task:{number}", queue=queue) for number, queue in enumerate(("gpu", "cpu", "gpu"))]
    urgent = entry("task:urgent", priority=1)
    later = entry("task:later", resume_after=timezone.now() + timedelta(hours=1), priority=1)
    other = entry("task:other", uses=["elsewhere"])

    told = of_entry.explain(some[2])

    assert [of_entry.explain(one).position for one in (urgent, *some)] == [1, 2, 3, 4]
    assert [reason.code for reason in told.reasons if reason.keeps] == ["resource"]
    assert "limited to 1 at once" in told.reasons[0].sentence
    assert told.expected_start is None
    assert of_entry.explain(other).position == 1
    assert later.pk not in [one.pk for one in some]
    for number in range(6):
        ago = timezone.now() - timedelta(seconds=5 * (number + 1))
        entry(f"task:done-{number}", finished_at=ago, outcome="sent", confirmed_at=ago)
    expected = of_entry.explain(some[2]).expected_start
    assert isinstance(expected, datetime)
    assert abs((expected - timezone.now()).total_seconds() - 20) < 5
    holds.place(["queue:cpu"], actor=OPERATOR, reason="demo")
    assert [of_entry.explain(one).position for one in (urgent, some[0], some[2])] == [1, 2, 3]


def test_the_line_is_told_in_order_and_names_only_what_the_caller_may_see(at_work):
    first, second = waiting(2)
    entry("task:1")

    boss = client_of(User.objects.create_superuser("boss")).get(LINE).json()
    onlooker = client_of(make_user("walter", None)).get(LINE).json()

    assert sorted((one["kind"], one["position"], one["ref"], one["title"]) for one in boss) == [
        ("run", 1, f"run:{first.pk}", "ask/ask"),
        ("run", 2, f"run:{second.pk}", "ask/ask"),
        ("task", 1, "task:1", "render"),
    ]
    assert [(one["kind"], one["position"]) for one in onlooker] == [(one["kind"], one["position"]) for one in boss]
    assert {one["ref"] + one["title"] for one in onlooker} == {""}
    assert client_of(None).get(LINE).status_code == 401


def test_the_shell_shows_who_is_next(at_work, shell):
    (first,) = waiting(1)

    shown = shell("resource", "show", "provider")

    assert re.search(rf"1\.  run    run:{first.pk}  ask/ask, priority 3", shown.out), shown.out
    assert report.of("provider").waiting == 1
