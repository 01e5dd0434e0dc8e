"""Who is let in at the endpoints for agents, and what tokens are. What is shut to agents: ``test_every_url``."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from automation import agents
from automation.models import Agent
from pause_manager.models import ControlEvent, ControlState, Hold
from tests.support.agent_calls import Caller, make_agent
from tests.support.api_users import JOBS, OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR, make_run, make_site, rows

pytestmark = pytest.mark.django_db(transaction=True)

ENDPOINTS = [
    ("post", "claim"),
    ("post", "{id}/heartbeat"),
    ("get", "{id}/items?token=1"),
    ("post", "{id}/checkpoint"),
    ("post", "{id}/complete"),
    ("post", "{id}/fail"),
]


@pytest.mark.req("W-36")
@pytest.mark.parametrize("keyword", ["Agent", "Bearer", "Token"])
def test_an_agent_cannot_toggle_the_fleet_even_where_it_is_open_to_all(settings, keyword):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "open_to": "operator"}
    _, token = make_agent()
    body = {"action": "pause", "mode": "drain", "reason": "mine", "confirmation": "yes"}

    answer = Caller(token, keyword).client.post("/api/system/worker-pause", body)

    assert answer.status_code == 403
    assert not Hold.objects.exists()
    assert not ControlState.objects.filter(is_paused=True).exists()


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_nobody_but_agents_is_let_in(method, path):
    run = make_run("remote", items=5)
    _, token = make_agent()
    job = Caller(token).claim()
    user = make_user("alice", run.site, VIEW, OPERATE)
    before = rows(run)

    def answer(authorization):
        client = APIClient()
        client.default_format = "json"
        if authorization:
            client.credentials(HTTP_AUTHORIZATION=authorization)
        found = getattr(client, method)(JOBS + path.format(id=job["id"]))
        return found.status_code, found.json()["code"], "system" in found.json()

    root = Token.objects.create(user=User.objects.create_superuser("root")).key
    assert answer(f"Token {Token.objects.create(user=user).key}") == (403, "agent_required", False)
    assert answer(f"Token {root}") == (403, "agent_required", False)
    assert answer("") == (401, "not_authenticated", False)
    assert answer("Agent swa_wrong") == (401, "authentication_failed", False)
    Agent.objects.update(is_enabled=False)
    assert answer(f"Agent {token}") == (403, "agent_disabled", False)
    assert rows(run) == before


@pytest.mark.parametrize("keyword", ["Agent", "Bearer"])
def test_errors_to_an_agent_carry_the_state_of_the_fleet(keyword):
    make_run("remote", items=5)
    caller = Caller(make_agent()[1], keyword)
    job = caller.claim()

    answers = [
        caller.post("claim", {"stage": "remote"}),
        caller.post("claim", {"claimId": "a/b"}),
        caller.to(job, "checkpoint", cursor="000", outputs={"000": {}}),
        caller.to(job, "checkpoint", cursor="nowhere"),
        caller.to({**job, "id": 4_711}, "heartbeat"),
        caller.to({**job, "token": 4_711}, "heartbeat"),
        caller.to({**job, "token": 2**64}, "heartbeat"),
    ]

    assert [status for status, _ in answers] == [400, 400, 400, 400, 404, 409, 400]
    assert "Did you mean stages?" in answers[0][1]["message"]
    assert caller.client.get(f"{JOBS}claim").json()["system"]["workersPaused"] is False


def test_a_token_is_kept_as_a_hash_and_ends_when_it_is_rotated():
    agent, old = make_agent()
    new = agents.issue(agent, actor=OPERATOR)

    assert old not in str(Agent.objects.values().get())
    assert agents.find_by_token(old) is None
    assert agents.find_by_token(new) == agent
    assert not ControlEvent.objects.filter(details__icontains=new).exists()


def test_the_command_prints_the_token_and_says_what_is_wrong(capsys):
    make_site("ours")
    call_command("create_agent", "gpu-7", "--site", "ours", "--pipeline", "remote")
    first = capsys.readouterr().out.strip()
    call_command("create_agent", "gpu-7", "--rotate", "--reason", "leaked")
    second = capsys.readouterr().out.strip()

    agent = Agent.objects.get(name="gpu-7")
    assert (agent.node, agent.pipelines, agents.find_by_token(first)) == ("gpu-7", ["remote"], None)
    assert agents.find_by_token(second) == agent
    assert [event.action for event in ControlEvent.objects.filter(scope="agent:gpu-7").order_by("pk")] == [
        "agent_created",
        "agent_token_rotated",
    ]
    for wrong in (
        ["a b", "--site", "ours", "--pipeline", "remote"],
        ["x", "--site", "ours"],
        ["x", "--site", "ours", "--pipeline", "nothing"],
        ["x", "--pipeline", "remote"],
        ["gpu-7", "--site", "ours", "--pipeline", "remote"],
        ["nobody", "--rotate"],
    ):
        with pytest.raises(CommandError):
            call_command("create_agent", *wrong)
    assert Agent.objects.count() == 1


def test_the_admin_shows_a_new_token_once():
    site = make_site("ours")
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    listed = reverse("admin:automation_agent_changelist")
    given = {"name": "gpu-8", "account": site.account_id, "site": site.pk, "pipelines": ["remote"], "is_enabled": "on"}

    made = client.post(reverse("admin:automation_agent_add"), given, follow=True)
    agent = Agent.objects.get(name="gpu-8")
    token = next(word for word in str(next(iter(made.context["messages"]))).split() if word.startswith("swa_"))
    rotated = client.post(listed, {"action": "rotate_selected", "_selected_action": [str(agent.pk)]}, follow=True)
    one = reverse("admin:automation_agent_change", args=[agent.pk])
    client.post(one, {**given, "node": "box-2", "is_enabled": ""}, follow=True)

    agent.refresh_from_db()
    assert agents.find_by_token(token) is None
    assert "swa_" in str(next(iter(rotated.context["messages"])))
    assert (agent.node, agent.is_enabled) == ("box-2", False)
    assert "swa_" not in client.get(listed).content.decode() + client.get(one).content.decode()
    actions = ControlEvent.objects.filter(scope="agent:gpu-8").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["agent_created", "agent_token_rotated", "agent_changed"]
