"""Why nobody works on a run that nothing keeps, and what a pause waits for: said, and keeping nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from automation import dispatch, gate, leases
from automation.dispatch import turns
from automation.leases.renewals import Loop
from automation.models import Agent, AutomationRun, Ticket
from automation.reports.working_time import durations_of
from automation.runs import lifecycle
from pause_manager.models import FleetWorker
from pause_manager.nodes import members
from tests.support.factories import OPERATOR, claim, leased, make_run, make_site, numbers, stage_of

pytestmark = pytest.mark.django_db(transaction=True)


def lives(*queues: str, name: str = "w@here", **known: Any) -> None:
    members.acknowledge(name, node="here", queues=queues, version=1, owner=f"owner of {name}", **known)


def told(run: AutomationRun) -> list[tuple[str, str]]:
    return [(one.code, one.sentence) for one in gate.explain(AutomationRun.objects.get(pk=run.pk))]


def wait(run: AutomationRun, seconds: float) -> None:
    """Its messages have been out for so long."""
    ago = timedelta(seconds=seconds)
    Ticket.objects.filter(stage_run__run=run).update(sent_at=F("sent_at") - ago)
    run.standstills.update(since=F("since") - ago)
    AutomationRun.objects.filter(pk=run.pk).update(started_at=F("started_at") - ago)


def test_a_run_without_any_live_worker_says_so_and_a_worker_that_comes_begins():
    run = make_run("few", items=3)
    assert told(run) == [("no_worker", "No live worker serves the queue stages.")]

    assert gate.may_proceed(gate.explain(run))
    assert claim(run) is not None


def test_a_pipeline_that_no_live_worker_has_is_named():
    run = make_run("few", items=3)
    lives("stages", pipelines=["content"], places=2)

    assert told(run) == [("no_worker", "No live worker that serves the queue stages knows the pipeline few.")]

    lives("stages", name="of the release before")
    assert "no_worker" not in dict(told(run))
    FleetWorker.objects.filter(pipelines=None).delete()
    lives("stages", pipelines=["content", "few"], places=2)
    assert "no_worker" not in dict(told(run))


def test_a_run_that_waits_for_a_free_worker_says_who_has_them_and_its_clock_stands():
    lives("stages", pipelines=["few"], places=2)
    busy, late = make_run("few", items=3), make_run("few", items=3)
    leased(busy, "a"), leased(busy, "b")
    wait(late, 100)

    assert told(busy) == []
    assert told(late) == [("no_free_worker", f"It waits for a free worker: 2 of 2 are on run {str(busy.pk)[:8]}.")]
    assert gate.may_start(late)
    late.refresh_from_db()
    taken = durations_of([late])[late.pk]
    assert (taken.total > 99, taken.active < 5) == (True, True)

    leased(late, "c")
    assert told(late) == []
    (stood,) = late.standstills.all()
    assert stood.until is not None
    assert durations_of([late])[late.pk].active < 5


def test_its_clock_stands_as_well_when_a_loop_has_made_room_and_all_messages_are_out_already():
    lives("stages", pipelines=["few"], places=2)
    run = make_run("few", items=3)
    work = leased(run)
    assert not run.standstills.filter(until=None).exists()

    leases.release(work)
    assert dispatch.of_runs([run.pk]) == 0, "there is a message for every slice"

    assert run.standstills.filter(until=None).exists()
    leased(run)
    assert not run.standstills.filter(until=None).exists()


def test_a_stage_of_agents_that_nobody_heard_of_says_so():
    site = make_site("far")
    run = make_run("remote", items=numbers(3), site=site)
    assert [code for code, _ in told(run)] == ["no_agent"]

    agent = Agent.objects.create(name="a", account=site.account, pipelines=["remote"], token_hash="1", node="box")
    assert [code for code, _ in told(run)] == ["no_agent"], "it has never asked"
    acknowledged = Agent.objects.filter(pk=agent.pk)
    acknowledged.update(last_seen_at=run.created_at)

    assert told(run) == []


def test_a_pause_says_which_item_it_waits_for_and_until_when():
    lives("stages", pipelines=["few"], places=2)
    run = make_run("few", items=3)
    work = leased(run)
    leases.renew([Loop(work.stage_run_id, work.slice_id, work.token, number=0, seconds=42.2, limit=60.0)])

    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")

    (_, why), (code, sentence) = told(run)
    assert why == "This run was paused by olga: lunch."
    assert code == "at_work"
    expected = r"Item 000 of stage few has been in progress for 4\d s on worker node-1; it is ended at 60 s\."
    assert re.fullmatch(expected, sentence), sentence


def answered(tickets: Sequence[Ticket]) -> list[int | None]:
    return [turns.answer(ticket.pk) for ticket in tickets]


def test_a_message_brings_a_worker_to_the_run_whose_turn_it_is():
    lives("stages", pipelines=["few"], places=2)
    long, late, urgent = (make_run("few", items=3) for _ in range(3))
    AutomationRun.objects.filter(pk=urgent.pk).update(priority=1)
    first, second = Ticket.objects.filter(stage_run__run=long).order_by("pk")

    assert answered([first]) == [stage_of(urgent).pk]
    Ticket.objects.filter(stage_run__run=urgent).delete()
    leased(long)
    assert answered([second, second]) == [stage_of(late).pk, None], "a message is answered once"
    assert Ticket.objects.filter(stage_run__run=long).exists(), "theirs brings another"
    lifecycle.pause(late.pk, actor=OPERATOR)
    remaining = Ticket.objects.order_by("pk").first()
    assert remaining is not None
    assert answered([remaining]) == [stage_of(long).pk]
