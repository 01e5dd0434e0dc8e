"""The pages of resources and of pausable tasks through Django's client."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pause_manager import fleet, resources
from pause_manager.actor import Actor
from pause_manager.models import Hold, Override, Resource
from pause_manager.nodes import members
from tests.support import parked_rows
from tests.support.factories import OPERATOR

pytestmark = pytest.mark.django_db(transaction=True)

STAGE = Actor("stage:write", "worker")


def client_of(*permissions: str) -> Client:
    user = User.objects.create_user("rita")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def words_at(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode().partition('id="content"')[2]).split())


def act(client: Client, do: str, **fields: str) -> tuple[int, dict[str, Any]]:
    answer = client.post("/resources/", {"do": do, "resource": "openai", **fields})
    return answer.status_code, json.loads(answer.content) if answer.status_code in (200, 409) else {}


def test_limits_are_set_for_good_and_taken_away() -> None:
    resources.set_limits("openai", {"max_at_once": 4}, actor=OPERATOR)
    client = client_of("operate_fleet")
    assert "openai Limited 0 4 no limit 0" in words_at(client, "/resources/")

    assert act(client, "limit", max_at_once="", max_per_minute="60", reason="a new contract")[0] == 200

    row = Resource.objects.get(name="openai")
    assert (row.max_at_once, row.max_per_minute) == (None, 60)
    status, told = act(client, "limit", max_at_once="many")
    assert (status, "expected a whole number from 1 to" in told["refused"]) == (409, True)


def test_a_limit_for_a_while_is_shown_with_what_follows_and_can_be_ended() -> None:
    resources.set_limits("openai", {"max_at_once": 4}, actor=OPERATOR)
    client = client_of("operate_fleet")

    assert act(client, "limit", max_at_once="1", minutes="30", reason="they are slow")[0] == 200

    override = Override.objects.active().get()
    assert Resource.objects.get(name="openai").max_at_once == 1
    assert "Limit at once of resource: 1, then 4" in words_at(client, "/resources/")
    assert act(client, "end-override", override=str(override.pk))[0] == 200
    assert Resource.objects.get(name="openai").max_at_once == 4


def test_who_is_next_is_listed_by_name_for_who_sees_everybody() -> None:
    resources.set_limits("openai", {"max_at_once": 4}, actor=OPERATOR)
    parked_rows.keep(uses=["openai"])
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss"))

    [(to_all, rest)] = [words_at(boss, "/resources/").partition("Who is next")[::2]]
    assert rest.startswith(" 1. tests.foreign.tasks.add, priority 3"), (to_all, rest)
    assert "Who is next 1. a task, priority 3" in words_at(client_of(), "/resources/")


def test_one_that_said_too_much_shows_until_when_and_is_asked_again_by_hand() -> None:
    resources.throttle("openai", 300, actor=STAGE, told="write")
    client = client_of("operate_fleet")

    words = words_at(client, "/resources/")
    assert "Said “too much” until" in words
    assert "to write" in words
    assert act(client, "ask-again", reason="they say it is up")[0] == 200
    assert not Hold.objects.active().exists()
    assert act(client, "ask-again", reason="once more")[0] == 409


def test_a_resource_is_held_and_released_and_a_viewer_has_no_buttons() -> None:
    resources.set_limits("openai", {"max_at_once": 4}, actor=OPERATOR)
    client = client_of("operate_fleet")

    assert act(client, "hold")[0] == 409, "a reason is required"
    assert act(client, "hold", reason="migration", minutes="5")[0] == 200
    assert "Held until" in words_at(client, "/resources/")
    assert act(client, "release")[0] == 200
    assert not Hold.objects.active().exists()
    status, told = act(client, "hold", resource="nobody", reason="x")
    assert (status, "nothing uses it" in told["refused"]) == (409, True)

    User.objects.get().user_permissions.clear()
    assert b"data-ask" not in client.get("/resources/").content.partition(b'id="content"')[2].partition(b"</main>")[0]
    assert act(client, "hold", reason="x")[0] == 403


def test_tasks_are_listed_by_name_with_what_runs_waits_and_is_stuck() -> None:
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    parked_rows.keep(3, task="add")
    parked_rows.keep(1, task="gone", problem="unknown_task")
    task = {"task_id": "t-1", "task_name": "tests.foreign.tasks.add", "queue": "foreign", "seconds": 12.0}
    members.acknowledge("a@box-1", node="box-1", queues=["foreign"], version=1, tasks=[task])
    client = client_of("operate_fleet")

    words = words_at(client, "/tasks/")

    assert re.search(r"Running 1 Waiting 4 Pause queue Nobody takes up 1", words)
    assert re.search(r"tests.foreign.tasks.gone .* 1 1 stuck", words)
    assert re.search(r"tests.foreign.tasks.add .* 1 \d{4}-\S+ \S+ UTC box-1 3", words)
    assert "t-1 foreign a@box-1" in words
    assert "<span>Tasks</span>" not in client.get("/fleet/").content.decode(), "no code here has pausable tasks"
    User.objects.get().user_permissions.clear()
    assert client.get("/tasks/").status_code == 403
