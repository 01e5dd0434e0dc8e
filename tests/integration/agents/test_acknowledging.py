"""Who of the remote agents has been told of a change of the fleet switch, and who need not be."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.dateparse import parse_datetime

from automation import agents
from automation.models import Agent, WorkSlice
from pause_manager import fleet
from pause_manager.holds import fleet_state
from pause_manager.management import drain_watch
from pause_manager.management.shell import Exit
from pause_manager.nodes import members
from pause_manager.nodes.members import Count
from tests.support.agent_calls import Caller, make_agent
from tests.support.api_users import client_of, make_user
from tests.support.factories import OPERATOR, expire_leases, make_run
from tests.support.race import race
from tests.support.scrape import Scrape, renamed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.req("W-49")]


@pytest.fixture
def run():
    return make_run("remote", items=20)


def pause(mode: str = "drain") -> int:
    return fleet.pause(mode=mode, reason="upgrade", actor=OPERATOR).version


def silent_for(name: str, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_agent SET last_seen_at = statement_timestamp() - make_interval(secs => %s) "
            "WHERE name = %s",
            [seconds, name],
        )


def lagging(version: int) -> list[str]:
    return [one["name"] for one in members.of_version(version).lagging]


@pytest.mark.req("W-40")
def test_an_answer_is_an_acknowledgement_and_is_written_once_a_version(run):
    (agent, token), before = make_agent(), fleet.state().version
    caller = Caller(token)
    job = caller.claim()
    assert Agent.objects.get().acknowledged_version == before

    version = pause()
    assert lagging(version) == ["agent:gpu-1"]
    with CaptureQueriesContext(connection) as told:
        _, answer = caller.to(job, "heartbeat")
    with CaptureQueriesContext(connection) as again:
        caller.to(job, "heartbeat")
        assert caller.claim() is None

    assert answer["system"]["version"] == version == Agent.objects.get().acknowledged_version
    assert Agent.objects.get().acknowledged_at is not None
    noted = [query["sql"] for query in told if '"acknowledged_version" =' in query["sql"]]
    assert len(noted) == 1
    assert not [query for query in again if '"acknowledged_version" =' in query["sql"]]
    assert members.of_version(version).by_kind == {"worker": Count(0, 0), "agent": Count(1, 1)}
    # Errors carry the state, too.
    version = fleet.resume(reason="done", actor=OPERATOR, force=True).version
    assert caller.to({**job, "token": 4_711}, "heartbeat")[0] == 409
    assert lagging(version) == []
    assert agent.acknowledged_version == 0, "the caller's own, from before"


def test_who_is_switched_off_is_not_waited_for_and_who_holds_a_lease_is(run):
    make_agent("never-called")
    for name in ("working", "switched-off", "polling", "disabled"):
        caller = Caller(make_agent(name)[1])
        assert (caller.claim() is not None) == (name in ("working", "switched-off"))
    WorkSlice.objects.filter(lease_owner="agent:switched-off").update(lease_expires_at="2020-01-01T00:00:00Z")
    Agent.objects.filter(name="disabled").update(is_enabled=False)
    for name in ("working", "switched-off"):
        silent_for(name, 3_600)

    version = pause()
    found = members.of_version(version)

    assert [one["name"] for one in found.lagging] == ["agent:polling", "agent:working"]
    assert found.by_kind["agent"] == Count(2, 0)
    assert all(one["acknowledgedVersion"] == version - 1 for one in found.lagging)
    silent_for("polling", 41)  # the time of a worker, and how seldom an agent's is noted
    assert lagging(version) == ["agent:working"]
    expire_leases(run)
    assert lagging(version) == []


def test_waiting_for_a_drain_ends_when_agents_were_told_or_are_gone(run):
    caller = Caller(make_agent()[1])
    caller.claim(stages=["nothing"])
    version = pause()
    said: list[str] = []
    wait = partial(drain_watch.wait, said.append, version=version)

    assert wait(at_most=0) == Exit.TIME_IS_UP
    assert "0 of 0 workers and 0 of 1 agents have obeyed" in said[-1]
    assert caller.claim() is None
    assert wait(at_most=0) == Exit.OK
    assert "1 of 1 agents have obeyed" in said[-1]

    fleet.resume(reason="done", actor=OPERATOR)
    silent_for("gpu-1", 3_600)
    assert drain_watch.wait(said.append, version=pause(), at_most=0) == Exit.OK
    assert "agents" not in said[-1]


def test_the_report_and_the_metrics_tell_agents_from_workers(run):
    version = fleet.state().version
    members.acknowledge("a@one", node="one", queues=["stages"], version=version + 1)
    Caller(make_agent()[1]).claim()
    pause()

    told = client_of(make_user("ann", run.site)).get("/api/system/worker-pause").json()
    shown = "\n".join(drain_watch.table(fleet.snapshot()))

    workers = told["workers"]
    assert (workers["total"], workers["acknowledged"]) == (2, 1)
    assert workers["byKind"] == {
        "worker": {"total": 1, "acknowledged": 1, "lost": 0},
        "agent": {"total": 1, "acknowledged": 0, "lost": 0},
    }
    [late] = workers["lagging"]
    assert (late["kind"], late["name"], late["node"]) == ("agent", "agent:gpu-1", "box-1")
    assert (late["acknowledgedVersion"], parse_datetime(late["lastSeenAt"]) is None) == (version, False)
    assert "1 of 2 workers and agents have not acknowledged the change: agent:gpu-1" in shown
    scrape = Scrape.of_the_view()
    for kind, yes, no in (("worker", 1, 0), ("agent", 0, 1)):
        assert scrape.value("slackwater_workers", kind=kind, obeys="yes") == yes
        assert scrape.value("slackwater_workers", kind=kind, obeys="no") == no


def test_an_answer_that_is_overtaken_takes_nothing_back():
    agent, _ = make_agent()
    old = fleet.state()
    pause()
    new = fleet.state()

    race(*[partial(agents.system_block, Agent.objects.get(), state) for state in (old, new, old, new)])
    agents.system_block(agent, old)

    assert Agent.objects.get().acknowledged_version == new.version


def test_what_cannot_be_read_is_not_acknowledged(run):
    agent, _ = make_agent()
    fleet.state()
    pause()

    with renamed("pause_manager_controlstate"):
        told = agents.system_block(agent)

    assert told["workersPaused"]
    assert not fleet_state.unreadable().is_readable
    assert Agent.objects.get().acknowledged_version == 0
    # And an acknowledgement that cannot be written keeps no job from being answered.
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE automation_agent RENAME COLUMN acknowledged_at TO gone")
        try:
            assert agents.system_block(Agent.objects.defer("acknowledged_at").get())["workersPaused"]
        finally:
            cursor.execute("ALTER TABLE automation_agent RENAME COLUMN gone TO acknowledged_at")
