"""Assistants: the SDK's client against real processes. Each test starts its server once and asks it many things."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from mcp import MCPError
from rest_framework.authtoken.models import Token

from automation import agents
from automation.models import Agent
from backend.mcp.tools import TOOLS
from pause_manager import fleet
from pause_manager.models import ControlEvent, Hold
from tests.support.agent_calls import Caller, done, make_agent
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR, leased, make_run, make_site, rows
from tests.support.mcp_clients import over_http, over_stdio, web_server

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

FLEET = "operate_fleet"
USER_TOOLS = {
    "runs.list",
    "runs.show",
    "runs.progress",
    "runs.explain",
    "runs.questions",
    "runs.answer",
    "lanes.freeze",
    "lanes.unfreeze",
    "runs.pause",
    "runs.resume",
    "runs.cancel",
    "fleet.status",
    "fleet.pause",
    "fleet.resume",
    "capacity.show",
}
DESTRUCTIVE = {"runs.answer", "runs.cancel", "lanes.freeze", "lanes.unfreeze", "fleet.pause", "fleet.resume"}
AGENT_TOOLS = {f"queue.{verb}" for verb in ("claim", "items", "heartbeat", "checkpoint", "complete", "fail")}


@pytest.fixture
def env(process_env) -> dict[str, str]:
    return {**process_env, "SLACKWATER_APPS": "tests.support"}


@pytest.fixture
def url(env, tmp_path) -> Iterator[str]:
    with web_server(env, tmp_path) as url:
        yield url


def token_of(user: User) -> str:
    return str(Token.objects.create(user=user).key)


def by_mcp(**filters) -> list[tuple[str, str, str]]:
    found = ControlEvent.objects.filter(channel="mcp", **filters).order_by("pk")
    return [(event.action, event.actor, event.reason) for event in found]


def test_an_assistant_of_a_user_works_over_stdio(env, tmp_path):
    run = make_run(items=10)
    make_user("alice", run.site, VIEW, OPERATE)

    with over_stdio(env, tmp_path, "--user", "alice") as assistant:
        tools = assistant.tools()
        assert tools.keys() == USER_TOOLS
        for name, tool in tools.items():
            told, hints = tool.input_schema, tool.annotations
            assert len(tool.description) > 60
            assert told["additionalProperties"] is False
            reads = name.split(".")[1] in ("list", "show", "progress", "explain", "questions", "status")
            assert hints.read_only_hint is reads
            assert ("reason" in told["required"]) is not reads
            assert hints.destructive_hint is (name in DESTRUCTIVE)

        assert [one["id"] for one in assistant.call("runs.list", status=None)["results"]] == [str(run.pk)]
        assert assistant.call("runs.explain", run_id=str(run.pk))["may_proceed"] is True
        leased(run)
        assert assistant.call("runs.pause", run_id=str(run.pk), reason="lunch")["status"] == "pausing"
        assert assistant.call("runs.pause", run_id=str(run.pk), reason="lunch")["status"] == "pausing"
        assert [one["code"] for one in assistant.call("runs.explain", run_id=str(run.pk))["reasons"]] == ["operator"]
        assert assistant.call("runs.progress", run_id=str(run.pk))["in_flight"][0]["worker"] == "test/a"
        for _ in range(2):
            resumed = assistant.call("runs.resume", run_id=str(run.pk), reason="fed", idempotencyKey="r1")
            assert resumed["status"] == "running"

        again = assistant.refusal("runs.resume", run_id=str(run.pk), reason="fed")
        assert again["code"] == "transition_refused"
        assert again["status"] == "running"
        for wrong in ({"reason": "x", "run_id": 7}, {"run_id": str(run.pk)}, {"run_id": str(run.pk), "reason": " "}):
            assert assistant.refusal("runs.cancel", **wrong)["code"] == "invalid"
        near = assistant.refusal("runs.list", state="paused")
        assert "Did you mean status?" in near["message"]
        assert assistant.refusal("runs.show", run_id="x/../y")["code"] == "not_found"
        assert assistant.refusal("fleet.pause", reason="x", mode="drain", confirmation="x")["code"] == (
            "worker_pause_forbidden"
        )
        assert assistant.refusal("queue.claim")["code"] == "agent_required"

        assert assistant.call("runs.cancel", run_id=str(run.pk), reason="wrong list")["status"] == "cancelling"
        User.objects.filter(username="alice").update(is_active=False)
        assert assistant.refusal("runs.list")["code"] == "authentication_failed"

    assert by_mcp(scope=run.scope) == [
        ("hold_placed", "user:alice", "lunch"),
        ("hold_released", "user:alice", "fed"),
        ("cancel_requested", "user:alice", "wrong list"),
    ]


def test_an_agent_works_over_stdio_until_its_token_ends(env, tmp_path):
    make_run("remote", items=5)
    agent, token = make_agent()

    with over_stdio({**env, "SLACKWATER_MCP_TOKEN": token}, tmp_path, mode="legacy") as assistant:
        assert assistant.tools().keys() == AGENT_TOOLS
        job = assistant.call("queue.claim")["job"]
        held = {"job_id": job["id"], "token": job["token"]}
        assert assistant.call("queue.complete", **held, **done(job))["finished"] is True
        assert assistant.refusal("fleet.status")["code"] == "agent_forbidden"
        with pytest.raises(MCPError, match="there is no such tool"):
            assistant.call("fleet.stop")
        agents.issue(agent, actor=OPERATOR)
        assert assistant.refusal("queue.claim")["code"] == "authentication_failed"


def test_the_command_acts_as_somebody_or_not_at_all():
    for options in ([], ["--user", "nobody"]):
        with pytest.raises(CommandError, match=r"Cannot (start: expected --user|act as nobody)"):
            call_command("mcp", *options)


@pytest.mark.req("W-13")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_operator_works_the_fleet_over_http(url, mode):
    run = make_run(items=10)
    leased(run)
    operator = token_of(make_user("olga", run.site, VIEW, OPERATE, FLEET))
    sure = {"mode": "drain", "confirmation": "yes, drain all"}

    with over_http(url, operator, mode) as assistant:
        assert assistant.tools().keys() == USER_TOOLS
        assert assistant.call("capacity.show")["is_watched"] is False
        assert assistant.call("fleet.status", latest=1)["system"]["workersPaused"] is False
        assert assistant.refusal("fleet.pause", **sure)["code"] == "invalid"
        assert assistant.refusal("fleet.pause", reason="x", mode="halt", confirmation="x")["code"] == (
            "worker_pause_invalid_request"
        )
        paused = assistant.call("fleet.pause", reason="upgrade", idempotencyKey="k1", **sure)
        assert (paused["system"]["mode"], paused["metrics"]["running"]) == ("drain", 1)
        assert assistant.call("fleet.pause", reason="upgrade", idempotencyKey="k1", **sure) == paused
        assert assistant.refusal("fleet.pause", reason="upgrade", **sure)["code"] == "worker_pause_unchanged"
        assert [one["code"] for one in assistant.call("runs.explain", run_id=str(run.pk))["reasons"]] == ["fleet"]
        refused = assistant.refusal("fleet.resume", reason="done")
        assert (refused["code"], refused["metrics"]["running"]) == ("worker_pause_not_drained", 1)
        assert assistant.refusal("fleet.resume", reason="done", forceResume=True)["code"] == (
            "worker_pause_invalid_request"
        )
        forced = assistant.call("fleet.resume", reason="done", forceResume=True, confirmation="yes, now")
        assert forced["system"]["version"] == paused["system"]["version"] + 1
        assert forced["audit"]["latest"][0]["channel"] == "mcp"

        make_run(items=3)
        first = assistant.call("runs.list", limit=1)
        second = assistant.call("runs.list", limit=1, cursor=first["next"])
        assert second["results"][0]["id"] == str(run.pk)
        assert second["next"] is None

    assert by_mcp(scope="fleet") == [
        ("hold_placed", "user:olga", "upgrade"),
        ("pause_refused", "user:olga", "upgrade"),
        ("resume_refused", "user:olga", "done"),
        ("hold_released", "user:olga", "done"),
    ]


@pytest.mark.req("W-14")
def test_an_agent_does_a_stage_over_http_and_hears_of_the_fleet(url):
    run = make_run("remote", items=20)
    agent, token = make_agent()
    rest = Caller(make_agent("other")[1])

    with over_http(url, token) as assistant:
        assert assistant.tools().keys() == AGENT_TOOLS
        claimed = assistant.call("queue.claim", maxItems=4, claimId="c1")
        held = {name: claimed["job"][name] for name in ("token",)} | {"job_id": claimed["job"]["id"]}
        assert assistant.call("queue.claim", maxItems=4, claimId="c1")["job"]["id"] == held["job_id"]
        job = {**claimed["job"], "items": assistant.call("queue.items", **held)["items"]}
        assert assistant.call("queue.heartbeat", **held)["stop"] is None
        assert assistant.call("queue.checkpoint", **held, **done(job, last=4))["finished"] is False
        early = assistant.refusal("queue.complete", **held, **done(job, first=4, last=6))
        assert early["code"] == "job_incomplete"
        assert assistant.refusal("queue.heartbeat", job_id="x", token=1)["system"]["workersPaused"] is False
        assert assistant.refusal("queue.heartbeat", job_id=-1, token=1)["code"] == "job_not_found"

        fleet.pause(mode="quiesce", reason="upgrade", actor=OPERATOR)
        theirs = rest.post("claim")[1]
        assert assistant.call("queue.claim") == theirs
        assert theirs["system"]["workersPaused"] is True
        beat = assistant.call("queue.heartbeat", **held)
        assert (beat["stop"]["code"], beat["system"]) == ("held", theirs["system"])
        assert assistant.call("queue.complete", **held, **done(job, first=4))["system"] == theirs["system"]
        fleet.resume(reason="done", actor=OPERATOR)

        second = assistant.call("queue.claim")["job"]
        assistant.call("queue.fail", job_id=second["id"], token=second["token"], error="no memory")
        for name in USER_TOOLS:
            given = {"run_id": str(run.pk)} if name.startswith("runs.") and name != "runs.list" else {}
            given |= {"mode": "drain", "confirmation": "x"} if name == "fleet.pause" else {}
            given |= {"lane": "ours"} if name.startswith("lanes.") else {}
            given |= {"answer": "yes"} if name == "runs.answer" else {}
            given |= {"reason": "mine"} if TOOLS[name].needs_reason else {}
            assert assistant.refusal(name, **given)["code"] == "agent_forbidden", name
        Agent.objects.update(is_enabled=False)
        with pytest.raises(MCPError, match=r"Cannot do that: the agent is disabled\. \(agent_disabled\)"):
            assistant.call("queue.claim")

    assert [action for action, actor, _ in by_mcp() if actor == f"agent:{agent.name}"] == ["job_failed"]
    assert not Hold.objects.active().exists()


def test_viewers_strangers_and_the_anonymous_are_refused_over_http(url, tmp_path):
    run = make_run(items=10)
    viewer = token_of(make_user("vera", run.site, VIEW))
    stranger = token_of(make_user("stan", make_site("elsewhere"), VIEW, OPERATE))
    nobody = token_of(make_user("nora", run.site))
    before = rows(run)
    this = {"run_id": str(run.pk)}

    with over_http(url, viewer) as assistant:
        assert assistant.call("runs.show", **this)["id"] == str(run.pk)
        assert assistant.call("fleet.status")["metrics"]["blockers"] is None
        for verb in ("pause", "resume", "cancel"):
            assert assistant.refusal(f"runs.{verb}", **this, reason="mine")["code"] == "permission_denied"
        refused = assistant.refusal("fleet.resume", reason="mine")
        assert refused["code"] == "worker_pause_forbidden"
    with over_http(url, stranger) as assistant:
        assert assistant.call("runs.list")["results"] == []
        for name in ("runs.show", "runs.progress", "runs.explain"):
            assert assistant.refusal(name, **this)["code"] == "not_found"
        for verb in ("pause", "resume", "cancel"):
            assert assistant.refusal(f"runs.{verb}", **this, reason="mine")["code"] == "not_found"
    with over_http(url, nobody) as assistant:
        assert assistant.refusal("runs.list")["code"] == "permission_denied"
        assert assistant.refusal("capacity.show")["code"] == "permission_denied"

    def answer(method: str = "POST", **headers: str) -> tuple[int, str]:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
        body = json.dumps(message).encode() if method == "POST" else None
        request = urllib.request.Request(f"{url}/mcp", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, ""
        except urllib.error.HTTPError as error:
            code = json.loads(error.read())["error"]["data"]["code"]
            return error.code, f"{code} {error.headers['WWW-Authenticate'] or ''}".strip()

    known = {"Authorization": f"Bearer {viewer}"}
    assert answer() == (401, "not_authenticated Bearer")
    assert answer(Authorization="Bearer wrong") == (401, "authentication_failed Bearer")
    assert answer(Authorization="Bearer swa_wrong") == (401, "authentication_failed Bearer")
    assert answer(**known) == (200, "")
    assert answer(**known, Origin=url) == (200, "")
    assert answer(**known, Origin="https://evil.example") == (403, "origin_forbidden")
    assert answer("GET", **known) == (405, "method_not_allowed")
    assert rows(run) == before
    assert [action for action, _, _ in by_mcp()] == ["sign_in_failed"]
