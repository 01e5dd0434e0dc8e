"""What an agent may do with a job, and what is refused without a trace."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from automation import gate, tasks
from automation.models import Agent, AutomationRun, ItemFailure, Lifecycle, Ticket, WorkSlice
from automation.pipeline import get_pipeline
from automation.runs import lifecycle, reconciler
from pause_manager import fleet, holds
from pause_manager.models import Hold
from tests.support.agent_calls import Caller, done, make_agent
from tests.support.factories import (
    OPERATOR,
    events,
    expire_leases,
    make_run,
    make_site,
    outputs,
    rows,
    settle,
    stage_of,
    tickets,
)
from tests.support.pipelines import Remote
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run():
    return make_run("remote", items=20)


@pytest.fixture
def agent(run) -> Caller:
    return Caller(make_agent()[1])


@pytest.fixture
def other(run) -> Caller:
    return Caller(make_agent("gpu-2")[1])


def unchanged(run):
    """All rows of the run but the time at which leases end, which every sign of life moves."""
    found = rows(run)
    for one in found["slices"]:
        del one["lease_expires_at"]
    return found


def test_agents_do_a_stage_and_workers_the_next(run, agent):
    reconciler.reconcile()
    assert tickets(run) == 0

    answers = []
    while job := agent.claim():
        answers.append(agent.to(job, "checkpoint", **done(job, last=4))[1])
        answers.append(agent.to(job, "complete", **done(job, first=4))[1])

    assert [(body["finished"], body["stop"]) for body in answers] == [(False, None), (True, None)] * 2
    assert tickets(run) > 0
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [10 * n for n in range(1, 21)]
    assert not [event for event in events(run) if event.action == "worker_lost"]


@pytest.mark.parametrize(("of_run", "of_agent"), [("distant", "remote"), ("remote", "distant")])
def test_an_agent_works_for_its_pipeline_under_each_name_that_it_had(run, agent, of_run, of_agent, monkeypatch):
    monkeypatch.setattr(get_pipeline("remote"), "formerly", ("distant",))
    AutomationRun.objects.update(pipeline=of_run)
    Agent.objects.update(pipelines=[of_agent], last_seen_at=Now())

    assert "no_agent" not in [one.code for one in gate.explain(AutomationRun.objects.get())]
    job = agent.claim()
    assert agent.to(job, "complete", **done(job))[1]["finished"]


def test_a_job_says_all_that_the_agent_needs(run, agent):
    job = agent.claim(maxItems=4)

    assert {name: job[name] for name in job.keys() - {"id", "token", "items"}} == {
        "run": str(run.pk),
        "pipeline": "remote",
        "stage": "remote",
        "params": {},
        "more": True,
        "cursor": "",
        "lastKey": "009",
        "gpus": [],
        "leaseSeconds": 15.0,
        "heartbeatSeconds": 5.0,
        "checkpointInterval": 0.1,
        "retries": 1,
        "retryBackoff": 1.0,
    }
    assert job["items"][0] == {"key": "000", "payload": {"n": 1}}
    rest = agent.items(job, after="003")
    page = agent.items(job, limit=2)
    assert [item["key"] for item in rest[1]["items"]] == [f"00{n}" for n in range(4, 10)]
    assert (rest[0], rest[1]["more"]) == (200, False)
    assert ([item["key"] for item in page[1]["items"]], page[1]["more"]) == (["000", "001"], True)
    assert "system" in page[1]


def test_a_message_that_was_sent_before_the_stage_was_the_agents_does_nothing(run):
    stage_run = stage_of(run)
    ticket = Ticket.objects.create(stage_run=stage_run, queue="stages")
    before = rows(run)["slices"]

    tasks.stage_loop(stage_run.pk, ticket.pk)

    assert rows(run)["slices"] == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cursor": "011"}, "'011' is not one of the remaining items"),
        ({"cursor": "nonsense"}, "'nonsense' is not one of the remaining items"),
        ({"outputs": {"000": [], "002": []}}, "item 001 is before the cursor and is missing"),
        ({"outputs": {"000": [], "001": [], "002": [], "005": []}}, "'005' is not an item up to 002"),
        ({"outputs": {"000": [], "001": [], "002": [7]}}, "outputs of item 002: expected an output that is a JSON"),
        ({"outputs": {"000": [], "001": [], "002": [{"n": 2**70}]}}, "outputs of item 002: expected an output made"),
        ({"failures": [{"key": "001", "error": "no"}]}, "item 001 is named as done and as failed"),
        ({"failures": [{"key": "001", "error": "no"}] * 2}, "an item is named twice among the failures"),
    ],
)
def test_what_does_not_fit_the_job_is_refused_whole(run, agent, wrong, said):
    job = agent.claim()
    before = unchanged(run)

    status, body = agent.to(job, "checkpoint", **{**done(job, last=3), **wrong})

    assert (status, body["code"]) == (400, "checkpoint_invalid")
    assert said in body["message"]
    assert unchanged(run) == before


def test_an_item_before_the_cursor_is_refused_and_the_same_again_is_answered_as_done(run, agent):
    job = agent.claim()
    first = agent.to(job, "checkpoint", **done(job, last=4))
    before = unchanged(run)

    again = agent.to(job, "checkpoint", **done(job, last=4))
    older = agent.to(job, "checkpoint", **done(job, last=2))
    changed = done(job, last=4)
    changed["outputs"]["003"] = [{"n": -1}]
    different = agent.to(job, "checkpoint", **changed)

    assert first == again
    assert (older[0], older[1]["code"]) == (400, "checkpoint_invalid")
    assert (different[0], different[1]["code"]) == (409, "checkpoint_conflict")
    assert unchanged(run) == before


def test_the_end_of_a_job_again_is_answered_as_done_and_nothing_else_is(run, agent):
    job = agent.claim()
    early = agent.to(job, "complete", **done(job, last=9))
    ended = agent.to(job, "complete", **done(job))
    before = rows(run)

    assert (early[0], early[1]["code"]) == (409, "job_incomplete")
    assert ended[1]["finished"] is True
    assert agent.to(job, "complete", **done(job)) == ended
    assert agent.to(job, "checkpoint", **done(job)) == ended
    for verb, given in [("heartbeat", {}), ("checkpoint", done(job, last=4)), ("fail", {"error": "late"})]:
        assert agent.to(job, verb, **given)[1]["code"] == "lease_lost"
    assert rows(run) == before


def test_the_same_checkpoint_twice_at_once_is_committed_once(run, agent):
    job = agent.claim()

    answers = race(*(lambda: agent.to(job, "checkpoint", **done(job, last=5)) for _ in range(4)))

    assert [status for status, _ in answers] == [200] * 4
    assert WorkSlice.objects.get(pk=job["id"]).processed == 5
    assert stage_of(run).outputs.count() == 5


def test_who_lost_the_lease_changes_nothing(run, agent, other):
    job = agent.claim()
    agent.to(job, "checkpoint", **done(job, last=3))
    expire_leases(run)
    reconciler.reap()
    taken = other.claim()
    before = rows(run)

    assert (taken["id"], taken["cursor"], taken["items"][0]["key"]) == (job["id"], "002", "003")
    assert taken["checkpointInterval"] == 0
    for verb, given in [
        ("heartbeat", {}),
        ("checkpoint", done(job, last=6)),
        ("complete", done(job)),
        ("fail", {"error": "no"}),
    ]:
        status, body = agent.to(job, verb, **given)
        assert (status, body["code"]) == (409, "lease_lost")
    assert agent.items(job)[0] == 409
    assert rows(run) == before


def test_the_token_of_another_agents_job_is_worth_nothing(run, agent, other):
    job = agent.claim()
    before = rows(run)

    assert other.to(job, "checkpoint", **done(job, last=3))[1]["code"] == "lease_lost"
    assert other.to(job, "heartbeat")[1]["code"] == "lease_lost"
    assert rows(run) == before


def test_jobs_of_other_accounts_sites_and_pipelines_do_not_exist(run, agent):
    job = agent.claim()
    theirs = make_site("theirs")
    sibling = make_site("sibling")
    sibling.account = run.site.account
    sibling.save()
    strangers = [
        make_agent("a", account=theirs.account),
        make_agent("b", pipelines=["graphics"]),
        make_agent("c", site=sibling),
    ]

    for _, token in strangers:
        stranger = Caller(token)
        assert stranger.claim() is None
        status, body = stranger.to(job, "checkpoint", **done(job))
        assert (status, body["code"]) == (404, "job_not_found")
    assert agent.post("99999999999999999999999/heartbeat", {"token": 1})[0] == 404


def test_failed_items_are_counted_by_the_server_and_too_many_fail_the_run(run, agent):
    job = agent.claim()
    handed = done(job, last=4)
    del handed["outputs"]["001"]
    status, _ = agent.to(job, "checkpoint", **handed, failures=[{"key": "001", "error": "too dark", "attempts": 2}])

    failure = ItemFailure.objects.get()
    row = WorkSlice.objects.get(pk=job["id"])
    assert status == 200
    assert (failure.key, failure.payload, failure.error, failure.attempts) == ("001", {"n": 2}, "too dark", 2)
    assert (row.processed, row.failed) == (3, 1)

    rest = [item["key"] for item in job["items"][4:7]]
    _, body = agent.to(job, "checkpoint", cursor=rest[-1], failures=[{"key": key, "error": "too dark"} for key in rest])
    assert body["stop"] is None
    assert agent.to(job, "heartbeat")[1]["stop"]["code"] == "finished"
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.FAILED


def test_an_agent_that_fails_on_an_item_three_times_gives_it_up(run, agent):
    job = agent.claim()
    agent.to(job, "checkpoint", **done(job, last=2))
    agent.to(job, "fail", error="CUDA out of memory", retryAfter=0)
    for _ in range(2):
        assert agent.to(agent.claim(), "fail", error="CUDA out of memory")[0] == 200

    rest, second, alone = agent.claim(), agent.claim(), agent.claim()

    assert [job["items"][0]["key"] for job in (rest, second, alone)] == ["003", "010", "002"]
    assert ([item["key"] for item in alone["items"]], alone["more"]) == (["002"], False)
    assert not ItemFailure.objects.exists()
    assert agent.to(alone, "fail", error="CUDA out of memory")[0] == 200
    failure = ItemFailure.objects.get()
    assert (failure.key, failure.attempts) == ("002", 3)
    assert "CUDA out of memory" in failure.error
    assert len(events(run, "job_failed")) == 4


def test_an_agents_item_may_not_ask_for_patience_for_ever(monkeypatch):
    monkeypatch.setattr(Remote, "max_waits", 1)
    make_run("remote", items=20)
    agent = Caller(make_agent()[1])
    for _ in range(2):
        assert agent.to(agent.claim(), "fail", error="HTTP 429", retryAfter=0)[0] == 200

    failure = ItemFailure.objects.get()
    assert (failure.key, failure.payload, failure.attempts) == ("000", {"n": 1}, 2)
    assert failure.error == "WaitLimitExceeded: asked to be tried later 2 times, 1 are allowed: HTTP 429"
    assert agent.claim()["items"][0]["key"] == "001"


def test_patience_that_a_provider_asks_for_holds_no_agent_and_fails_nothing(run, agent):
    job = agent.claim()
    agent.to(job, "fail", error="HTTP 429", retryAfter=3_600)

    row = WorkSlice.objects.get(pk=job["id"])
    assert (row.lease_token, row.crashes) == (None, 0)
    assert agent.claim()["id"] != job["id"]
    assert agent.claim() is None


@pytest.mark.req("W-24")
def test_a_hold_reaches_the_agent_with_its_next_heartbeat_and_it_gives_the_job_back(run, agent):
    job = agent.claim()
    assert agent.to(job, "heartbeat")[1]["stop"] is None
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")

    _, beat = agent.to(job, "heartbeat")
    _, body = agent.to(job, "checkpoint", **done(job, last=4), release=True)

    assert beat["stop"] == {"code": "held", "sentence": "operator hold: lunch"}
    assert (body["released"], body["finished"]) == (True, False)
    assert agent.claim() is None
    assert "stopped after item 003" in events(run, "stopped")[0].reason
    assert events(run, "stopped")[0].actor == "agent:gpu-1"
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert agent.claim()["items"][0]["key"] == "004"


@pytest.mark.req("W-25")
def test_a_cancel_ends_an_agents_work_and_then_the_run(run, agent):
    job = agent.claim()
    lifecycle.cancel(run.pk, actor=OPERATOR, reason="wrong input")

    stop = agent.to(job, "heartbeat")[1]["stop"]
    _, body = agent.to(job, "checkpoint", **done(job, last=2), release=True)

    assert stop["code"] == "cancelled"
    assert body["released"] is True
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED


@pytest.mark.parametrize("scope", ["node:box-1", "pipeline:remote", "queue:stages", "fleet"])
def test_a_hold_on_any_scope_keeps_jobs_from_the_agent(run, agent, scope):
    job = agent.claim()
    holds.place([scope], mode=Hold.Mode.QUIESCE, actor=OPERATOR, reason="repairs")

    assert agent.claim() is None
    assert agent.to(job, "heartbeat")[1]["stop"]["sentence"] == "operator hold: repairs"


@pytest.mark.req("W-10")
@pytest.mark.req("W-11")
@pytest.mark.req("W-12")
@pytest.mark.parametrize("mode", ["drain", "quiesce"])
def test_while_the_fleet_is_paused_a_claim_looks_for_nothing(run, agent, mode):
    job = agent.claim()
    expire_leases(run)
    fleet.pause(mode=mode, reason="upgrade", actor=OPERATOR)
    before = rows(run)["slices"]

    with CaptureQueriesContext(connection) as captured:
        status, body = agent.post("claim", {})

    assert (status, body["job"]) == (200, None)
    assert body["system"] == fleet.state().as_dict()
    assert (body["system"]["workersPaused"], body["system"]["mode"]) == (True, mode)
    looked = [query["sql"] for query in captured if "workslice" in query["sql"] or "stagerun" in query["sql"]]
    assert looked == []
    assert reconciler.reap() == 0
    assert rows(run)["slices"] == before
    assert agent.to(job, "heartbeat")[1]["system"]["version"] == body["system"]["version"]


@pytest.mark.req("W-23")
@pytest.mark.req("W-26")
def test_a_drain_lets_the_job_finish_and_a_resume_goes_on(run, agent):
    job = agent.claim()
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)

    assert agent.to(job, "heartbeat")[1]["stop"] is None
    assert agent.to(job, "complete", **done(job))[1]["finished"] is True
    assert fleet.snapshot()["metrics"]["isDrained"] is True
    assert agent.claim() is None
    fleet.resume(reason="done", actor=OPERATOR)
    assert agent.claim()["items"][0]["key"] == "010"


@pytest.mark.req("W-39")
def test_a_state_that_cannot_be_read_counts_as_paused(run, agent):
    fleet.state()  # before it cannot be read
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE pause_manager_controlstate RENAME TO hidden")
        try:
            status, body = agent.post("claim", {})
        finally:
            cursor.execute("ALTER TABLE hidden RENAME TO pause_manager_controlstate")

    assert (status, body["job"], body["system"]["workersPaused"]) == (200, None, True)
    assert WorkSlice.objects.leased().count() == 0


def test_a_claim_whose_answer_was_lost_gets_the_same_job(run, agent):
    first, again, next_one = agent.claim(claimId="1"), agent.claim(claimId="1"), agent.claim(claimId="2")

    assert first == again
    assert next_one["id"] != first["id"]


def test_agents_never_share_a_job_and_obey_concurrency(run):
    graphics = make_run("graphics", items=6)
    callers = [Caller(make_agent(f"r{n}")[1]) for n in range(4)]

    jobs = [job for job in race(*(caller.claim for caller in callers)) if job]

    assert len({job["id"] for job in jobs}) == len(jobs)
    assert sum(job["run"] == str(graphics.pk) for job in jobs) <= 1
    assert callers[0].claim() is None


def test_the_more_urgent_run_goes_first_and_an_agent_may_choose_its_stages(run, agent):
    urgent = make_run("remote", items=2)
    urgent.priority = 1
    urgent.save()

    assert agent.claim(stages=["graphics"]) is None
    assert agent.claim(stages=["remote"])["run"] == str(urgent.pk)


def test_a_gpu_job_needs_a_sample_that_has_the_room(agent, settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True}
    make_run("graphics", items=2)
    sample = {"cores": 8, "memoryMib": 32_000, "freeMemoryMib": 30_000}
    full = {"index": 0, "totalMib": 24_000, "freeMib": 1_000}
    empty = {"index": 1, "totalMib": 24_000, "freeMib": 23_000}

    _, blind = agent.post("claim", {"stages": ["graphics"]})
    _, narrow = agent.post("claim", {"stages": ["graphics"], "sample": {**sample, "gpus": [full]}})
    _, roomy = agent.post("claim", {"stages": ["graphics"], "sample": {**sample, "gpus": [full, empty]}})

    assert blind["job"] is None
    assert "box-1 has no fresh sample" in blind["reason"]
    assert narrow["job"] is None
    assert narrow["reason"]
    assert roomy["job"]["gpus"] == ["1"]


def test_a_gpu_that_an_agent_names_by_uuid_is_booked_by_it(agent, settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True}
    make_run("graphics", items=2)
    card = {"index": 3, "totalMib": 24_000, "freeMib": 23_000, "uuid": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"}
    sample = {"cores": 8, "memoryMib": 32_000, "freeMemoryMib": 30_000, "gpus": [card]}

    _, found = agent.post("claim", {"stages": ["graphics"], "sample": sample})

    assert found["job"]["gpus"] == [card["uuid"]]
    assert WorkSlice.objects.leased().get().lease_gpus == [card["uuid"]]


def test_an_agent_is_seen(run, agent):
    agent.claim()

    assert Agent.objects.get(name="gpu-1").last_seen_at is not None
