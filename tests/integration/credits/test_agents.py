"""Remote agents: they are given what can be paid for, and no more is committed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from automation import gate
from automation.agents import protocol
from automation.agents.submission import Submission
from automation.contrib.credits import settling
from automation.contrib.credits.models import Grant
from automation.models import Agent, AutomationRun, Lifecycle
from automation.runs import lifecycle
from tests.integration.credits.test_budget import change_to, short_run
from tests.support.agent_calls import Caller, make_agent
from tests.support.credit_books import CREDIT, assert_sound, balance, charged, top_up
from tests.support.factories import OPERATOR, outputs, settle
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def agent_of(run: AutomationRun, name: str = "gpu-1") -> Caller:
    return Caller(make_agent(name, account=run.account)[1])


def handed(job: dict[str, Any]) -> list[str]:
    return [item["key"] for item in job["items"]]


def results(keys: list[str]) -> dict[str, Any]:
    return {"cursor": keys[-1], "outputs": {key: [{"n": 1}] for key in keys}}


def work_through(caller: Caller, most: int = 50) -> int:
    """What an agent does that asks until there is nothing; how many items it did."""
    done = 0
    for _ in range(most):
        job = caller.claim()
        if job is None:
            break
        page = job
        while page["items"]:
            keys = handed(page)
            status, body = caller.to(job, "checkpoint", **results(keys))
            assert status == 200, body
            done += len(keys)
            if body["finished"]:
                break
            _, page = caller.items(job)
        else:
            assert page["more"]
            assert page["stop"]["code"] == "budget"
            caller.to(job, "checkpoint", cursor=keys[-1], outputs={}, release=True)
    return done


def test_an_agent_does_what_can_be_paid_for_and_continues_from_there():
    run = short_run("remote", "remote", affords=7, items=20)
    agent = agent_of(run)

    assert work_through(agent) == 7
    settling.sweep()

    assert (charged(run), balance(run.site)) == (7 * CREDIT, 0)
    assert gate.explain(AutomationRun.objects.get(pk=run.pk))[0].code == "budget"
    top_up(run.site.account, 100, key="more")
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert work_through(agent) == 13
    settle(run)
    assert AutomationRun.objects.get(pk=run.pk).lifecycle == Lifecycle.COMPLETED
    assert len(outputs(run)) == 20
    assert charged(run) == 20 * CREDIT
    assert_sound(run.site)


def test_a_claim_gets_no_more_items_than_can_be_paid_for():
    run = short_run("remote", "remote", affords=1, items=20)

    job = agent_of(run).claim()

    assert handed(job) == ["000"]
    assert job["more"] is True
    assert Grant.objects.get().granted == 1


def test_a_claim_that_nothing_pays_for_gets_no_job_and_the_reason():
    run = short_run("remote", "remote", affords=0, items=20)

    _, body = agent_of(run).post("claim")

    assert body["job"] is None
    assert "needs 1 credits for the next item of remote, and 0 are available to it" in body["reason"]
    assert gate.explain(AutomationRun.objects.get(pk=run.pk))[0].code == "budget"


def test_what_was_not_handed_out_is_not_committed():
    run = short_run("remote", "remote", affords=2, items=20)
    agent = agent_of(run)
    job = agent.claim()
    more = [f"{number:03d}" for number in range(8)]

    status, body = agent.to(job, "checkpoint", **results(more))

    assert (status, body["code"]) == (400, "checkpoint_invalid")
    assert "it has 8 items, and 2 may begin" in body["message"]
    assert charged(run) == 0
    assert agent.to(job, "checkpoint", **results(more[:2]))[0] == 200
    assert (charged(run), balance(run.site)) == (2 * CREDIT, 0)


def test_the_same_pages_again_draw_nothing_more():
    run = short_run("remote", "remote", affords=8, items=20)
    agent = agent_of(run)
    job = agent.claim(maxItems=2)
    drawn = Grant.objects.get().granted

    for _ in range(3):
        assert [item["key"] for item in agent.items(job, limit=2)[1]["items"]] == ["000", "001"]

    assert Grant.objects.get().granted == drawn


def as_fast_as_it_can(agent: Agent) -> int:
    """How many items an agent does that hands in each page and claims again."""
    done = 0
    while (job := protocol.claim(agent, limit=2)["job"]) is not None:
        keys = handed(job)
        given = Submission(cursor=keys[-1], outputs={key: [{"n": 1}] for key in keys})
        protocol.commit(agent, job["id"], job["token"], given, actor=OPERATOR, release=True)
        done += len(keys)
    return done


def test_agents_that_race_for_the_last_credits_never_overdraw():
    run = short_run("remote", "remote", affords=5, items=20)
    agents = [make_agent(name, account=run.account)[0] for name in ("gpu-1", "gpu-2")]

    done = race(*(partial(as_fast_as_it_can, agent) for agent in agents))

    assert sum(done) == charged(run) // CREDIT <= 5
    assert balance(run.site) >= 0


def test_a_correction_while_an_agent_works_takes_none_of_what_it_was_given():
    run = short_run("remote", "remote", affords=20, items=20)
    agent = agent_of(run)
    job = agent.claim()
    given = handed(job)
    change_to(run.site, 0)

    assert agent.to(job, "checkpoint", **results(given))[0] == 200
    assert charged(run) == len(given) * CREDIT
