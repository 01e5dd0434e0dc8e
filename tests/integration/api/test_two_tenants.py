"""Two tenants on one fleet: nothing that is called after one of them is in any answer to the other."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from rest_framework.authtoken.models import Token

from automation.models import Agent, AutomationRun, Ticket, WorkSlice
from automation.runs import lifecycle
from backend import roles
from backend.mcp.tools import TOOLS
from pause_manager import fleet, holds
from pause_manager.actor import Actor
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.observability import audit
from tests.integration.api.test_every_url import of_role
from tests.support.agent_calls import make_agent
from tests.support.api_users import make_user
from tests.support.factories import leased, make_run, make_site
from tests.support.node_factories import make_node
from tests.support.schedules import make_schedule
from tests.support.url_table import SECTIONS
from tests.support.windows import make_window

pytestmark = [pytest.mark.django_db, pytest.mark.req("A-36", "W-36")]

ROWS = [row for rows in SECTIONS.values() for row in rows if row.method == "GET"]
QUERIES = {
    "api/v1/holds/": ("", "?released=true", "?scope=lane:*", "?scope=lane:zebra", "?scope=run:*", "?kind=operator"),
    "api/v1/pause-queue/": ("", "?waits_for=capacity", "?problem=no_worker"),
    "api/v1/audit/": ("", "?actor=user:zebra", "?scope=lane:zebra", "?action=sign_in_failed"),
    "api/v1/audit/export/": ("", "?type=csv"),
    "api/system/worker-pause": ("", "?latest=50"),
    "": ("", "?status=active", "?status=paused"),
}
ZEBRA = Actor("user:zebra", "api")


@pytest.fixture
def theirs(db: None) -> AutomationRun:
    """Everything of the other tenant, all of it called zebra."""
    site = make_site("zebra")
    make_user("zebra", site)
    payload = [{"n": n, "title": f"zebra {n}"} for n in range(6)]
    run = make_run(site=site, items=payload)
    work = leased(run)
    WorkSlice.objects.filter(pk=work.slice_id).update(lease_node="here", lease_owner="zebra/w1")
    held = make_run(site=site, items=payload)
    lifecycle.pause(held.pk, actor=ZEBRA, reason="zebra needs the farm")
    holds.place(["lane:zebra"], kind=Hold.Kind.OPERATOR, mode=Hold.Mode.DRAIN, actor=ZEBRA, reason="zebra sleeps")
    PauseQueueEntry.objects.create(ref=run.scope, task_name="none", queue="stages", reason="zebra waits")
    default_storage.save(f"runs/{run.pk}/few/notes.md", ContentFile(b"zebra"))
    make_schedule(site, name="zebra-nightly")
    make_window("lane:zebra", name="zebra-nights", reason="zebra sleeps")
    make_agent("zebra-gpu", account=site.account, node="zebra-box")
    Agent.objects.filter(name="zebra-gpu").update(last_seen_at=Now())
    audit.record("created", scope="site:99", actor=ZEBRA, reason="zebra")
    for _ in range(3):
        Client(REMOTE_ADDR="192.0.2.200").post("/sign-in/", {"username": "zebra", "password": "x"})
    return run


@pytest.fixture
def world(theirs: AutomationRun) -> dict[str, str]:
    site = make_site("ours")
    run = make_run(site=site)
    entry = PauseQueueEntry.objects.create(ref=run.scope, task_name="none", queue="stages", reason="full")
    default_storage.save(f"runs/{run.pk}/few/notes.md", ContentFile(b"ours"))
    # It waits for a worker: the other tenant has them all.
    members.acknowledge("w1", node="here", queues=["stages"], version=0, places=1, pipelines=["numbers"])
    ticket = Ticket.objects.create(stage_run=run.stages.get(position=0), queue="stages")
    Ticket.objects.filter(pk=ticket.pk).update(sent_at=Now() - timedelta(minutes=1))
    return {
        "site": "ours",
        "job_id": "1",
        "run_id": str(run.pk),
        "window": make_window("queue:night").name,
        "schedule_id": str(make_schedule(run.site).pk),
        "lane": "zebra",
        "pipeline": "few",
        "agent": "ours-1",
        "resource": "openai",
        "override_id": "1",
        "provider": "stripe",
        "account_id": str(run.site.account_id),
        "site_id": run.site.slug,
        "transfer_id": "1",
        "number": "1",
        "entry_id": str(entry.pk),
        "agent_id": make_node("here").name,
        "node": "here",
        "name": "few/notes.md",
        "called": str(run.pk)[:8],
        "rest": "nowhere",
    }


def clients(world: dict[str, str]) -> dict[str, Client]:
    site = AutomationRun.objects.get(pk=world["run_id"]).site
    people = {
        "member": make_user("mary", site),
        "viewer": of_role("victor", site, roles.VIEWERS),
        "operator": of_role("alice", site, roles.OPERATORS),
    }
    found = {"anonymous": Client(), "agent": Client(headers={"Authorization": f"Agent {make_agent('ours-1')[1]}"})}
    for name, user in people.items():
        found[name] = Client(headers={"Authorization": f"Token {Token.objects.create(user=user).key}"})
        found[name].force_login(user)
    return found


def told(answer: Any) -> str:
    if answer.streaming and "event-stream" in answer["Content-Type"]:
        return ""  # see the browser's tests
    return (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()


def traces(text: str, theirs: AutomationRun, asked: str) -> list[str]:
    """What of the other tenant is in ``text``, beside what was asked for by name."""
    ids = [str(pk)[:8] for pk in AutomationRun.objects.filter(site=theirs.site).values_list("pk", flat=True)]
    return re.findall("|".join(["zebra", *ids]), re.sub(re.escape(asked), "", text), re.IGNORECASE)


@pytest.mark.parametrize(
    "is_paused", [pytest.param(False, id="running", marks=pytest.mark.slow), pytest.param(True, id="paused")]
)
def test_no_answer_tells_of_the_other_tenant(theirs: AutomationRun, world: dict[str, str], is_paused: bool) -> None:
    if is_paused:
        fleet.pause(mode="drain", reason="upgrade", actor=Actor("user:root", "cli"), confirmation="yes")
    callers, found, seen = clients(world), {}, set()
    for row in ROWS:
        for query in QUERIES.get(row.url, (row.query,)):
            url = re.sub(r"<\w+:(\w+)>", lambda match: world[match[1]], f"/{row.url}{query}")
            for name, client in callers.items():
                if row.url == "api/schema/" and name != "operator":
                    continue  # it is made from the code alone, for whoever asks
                with transaction.atomic():
                    answer = client.get(url)
                    asked = {"lane:zebra" in url: "lane:zebra", "lanes/zebra" in url: "lane 'zebra'"}.get(True, "\0")
                    if leaks := traces(told(answer), theirs, asked):
                        found[f"{name}: {url}"] = leaks
                    seen.add((name, answer.status_code))
                    transaction.set_rollback(True)

    assert found == {}
    assert ("operator", 200) in seen


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tool", [name for name, tool in TOOLS.items() if tool.reads])
def test_no_tool_tells_of_the_other_tenant(theirs: AutomationRun, world: dict[str, str], tool: str) -> None:
    fleet.pause(mode="drain", reason="upgrade", actor=Actor("user:root", "cli"), confirmation="yes")
    arguments = {"run_id": world["run_id"]} if tool.startswith("runs.") and tool != "runs.list" else {}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    answer = clients(world)["operator"].post(
        "/mcp",
        json.dumps(message),
        content_type="application/json",
        headers={"Accept": "application/json, text/event-stream"},
    )

    assert answer.status_code == 200
    assert traces(told(answer), theirs, "\0") == []


def test_who_has_the_workers_is_named_to_its_own_account_alone(theirs: AutomationRun, world: dict[str, str]) -> None:
    url = f"/api/v1/automation/runs/{world['run_id']}/explain/"
    client = clients(world)["operator"]

    sentences = [reason["sentence"] for reason in client.get(url).json()["reasons"]]
    assert sentences == ["It waits for a free worker: 1 of 1 is on 1 run of other accounts."]


def test_lanes_of_ones_own_and_the_fleet_s_holds_are_listed(theirs: AutomationRun, world: dict[str, str]) -> None:
    mine = ["lane:ours", "queue:stages", "pipeline:numbers", "node:here"]
    holds.place(mine, kind=Hold.Kind.OPERATOR, mode=Hold.Mode.DRAIN, actor=ZEBRA, reason="all of us")
    client = clients(world)["viewer"]

    assert {hold["scope"] for hold in client.get("/api/v1/holds/").json()} == set(mine)
