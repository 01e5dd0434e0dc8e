"""Agents that ask a person about an item, or freeze the lane of their run; and starts a minute that they obey."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from automation.agents import explanation
from automation.models import Agent, AutomationRun, ItemFailure, Lifecycle, RunQuestion, WorkSlice
from automation.runs import answering, freezes, lifecycle
from pause_manager import holds, resources
from pause_manager.models import Resource
from tests.support import provider_pipelines
from tests.support.agent_calls import Caller, done, make_agent
from tests.support.factories import OPERATOR, events, make_run
from tests.support.lane_runs import codes

pytestmark = pytest.mark.django_db(transaction=True)
assert provider_pipelines


@pytest.fixture
def run() -> AutomationRun:
    return make_run("remote", items=20)


@pytest.fixture
def agent(run) -> Caller:
    return Caller(make_agent()[1])


@pytest.mark.req("S-30")
def test_a_question_holds_the_run_and_the_answer_comes_with_the_item(run, agent):
    job = agent.claim()
    assert agent.to(job, "checkpoint", **done(job, last=4))[0] == 200

    status, _ = agent.to(job, "ask", question="Publish it?", choices=["yes", "no"])

    assert status == 200
    asked = RunQuestion.objects.get()
    assert (asked.item_key, asked.question, asked.choices, asked.asked_by) == (
        "004",
        "Publish it?",
        ["yes", "no"],
        "agent:gpu-1",
    )
    assert codes(run) == ["needs_input"]
    assert agent.claim() is None
    assert agent.to(job, "heartbeat")[1]["code"] == "lease_lost", "the job went back"
    assert not WorkSlice.objects.leased().exists()
    assert not ItemFailure.objects.exists()

    answering.answer(run.pk, "no", actor=OPERATOR)

    again = agent.claim()
    assert (again["cursor"], again["items"][0]["key"]) == ("003", "004")
    assert (again["items"][0]["answer"], again["items"][0]["answers"]) == ("no", {"Publish it?": "no"})
    assert "answer" not in again["items"][1]
    assert agent.to(again, "complete", **done(again))[1]["finished"]


@pytest.mark.req("S-26")
def test_a_freeze_stops_the_lane_until_an_operator_lifts_it(run, agent):
    other = make_run("remote", items=20)
    job = agent.claim()

    status, _ = agent.to(job, "freeze", reason="the totals differ")

    assert status == 200
    freeze = freezes.of_lane(run.lane)
    assert freeze is not None
    assert (freeze.reason, freeze.actor) == ("remote: the totals differ", run.scope)
    assert codes(run) == codes(other) == ["freeze"]
    assert agent.claim() is None
    assert events(run, "froze_lane")[0].details["item"] == "000"
    holds.release([run.scope], actor=OPERATOR)
    lifecycle.cancel(other.pk, actor=OPERATOR)
    assert codes(run) == ["freeze"], "nothing else lifts it"

    freezes.unfreeze(run.lane, actor=OPERATOR)

    again = agent.claim()
    assert (again["id"], again["items"][0]["key"]) == (job["id"], "000")


def test_of_a_run_that_is_being_cancelled_nothing_is_asked(run, agent):
    job = agent.claim()
    lifecycle.cancel(run.pk, actor=OPERATOR)

    assert agent.to(job, "ask", question="Publish it?")[0] == 200

    assert not RunQuestion.objects.exists()
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED


@pytest.mark.parametrize(
    ("verb", "body", "said"),
    [
        ("ask", {"question": ""}, "may not be blank"),
        ("ask", {"question": "x" * 2_001}, "no more than 2000"),
        ("ask", {"question": "Which?", "choices": ["a", "a"]}, "1 to 20 different choices"),
        ("ask", {"question": "Which?", "choices": []}, "at least 1"),
        ("freeze", {}, "required"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_the_job_is_kept(run, agent, verb, body, said):
    job = agent.claim()

    status, answer = agent.to(job, verb, **body)

    assert (status, answer["code"]) == (400, "invalid")
    assert said in str(answer["fields"])
    assert agent.to(job, "heartbeat")[0] == 200
    assert not RunQuestion.objects.exists()
    assert codes(run) == []


def test_who_has_lost_the_job_asks_nothing(run, agent):
    job = agent.claim()
    agent.to(job, "fail", error="out of memory", retryAfter=0)

    assert agent.to(job, "ask", question="Publish it?")[1]["code"] == "lease_lost"
    assert agent.to(job, "freeze", reason="the totals differ")[1]["code"] == "lease_lost"

    assert not RunQuestion.objects.exists()
    assert codes(run) == []


@pytest.fixture
def paced() -> Caller:
    make_run("ask-remote", items=8)
    resources.set_limits("provider", {"max_per_minute": 60}, actor=OPERATOR)
    return Caller(make_agent(pipelines=["ask-remote"])[1])


@pytest.mark.slow
def test_each_item_counts_as_a_start_when_it_is_handed_out(paced):
    job = paced.claim()
    assert ([item["key"] for item in job["items"]], job["more"]) == (["000"], True)

    began = time.monotonic()
    keys: list[str] = []
    while len(keys) < 3:
        page = paced.items(job, after=keys[-1] if keys else "000")[1]
        keys += [item["key"] for item in page["items"]]

    assert keys == ["001", "002", "003"]
    assert time.monotonic() - began > 2.5, "60 a minute are one a second"


def test_an_item_that_would_start_later_is_not_handed_out_and_the_agent_is_told_why(paced):
    job = paced.claim()
    Resource.objects.filter(name="provider").update(next_start_at=Now() + timedelta(seconds=30))

    page = paced.items(job, after="000")[1]

    assert (page["items"], page["more"], page["stop"]["code"]) == ([], True, "paced")
    assert paced.post("claim", {})[1]["job"] is None
    assert agent_reasons() == ["no_work"]


def agent_reasons() -> list[str]:
    return [reason.code for reason in explanation.explain(Agent.objects.get()).reasons if reason.keeps]


def test_a_repeated_claim_takes_no_second_start(paced):
    first = paced.claim(claimId="one")

    began = time.monotonic()
    again = paced.claim(claimId="one")

    assert time.monotonic() - began < 0.9
    assert (again["id"], again["items"]) == (first["id"], first["items"])


def test_without_a_limit_a_page_is_as_long_as_ever(paced):
    resources.set_limits("provider", {"max_per_minute": None}, actor=OPERATOR)

    assert len(paced.claim()["items"]) == 4


def test_a_job_of_an_agent_counts_for_what_may_be_used_at_once(paced):
    resources.set_limits("provider", {"max_per_minute": None, "max_at_once": 1}, actor=OPERATOR)
    other = Caller(make_agent("gpu-2", pipelines=["ask-remote"])[1])

    job = paced.claim()

    assert other.claim() is None
    assert paced.to(job, "complete", **done(job))[1]["finished"]
    assert other.claim() is not None
