"""The pause queue over HTTP in a project that has no pipelines: Django's own permissions of entries open it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection

from pause_manager import manager, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.api_users import client_of

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "/api/v1/pause-queue/"
PROJECT = """
import json, sys
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only-for-tests",
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "pause_manager", "rest_framework"],
    DATABASES={"default": json.loads(sys.argv[1])},
    ROOT_URLCONF="pause_manager.api.urls",
    ALLOWED_HOSTS=["testserver"],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": []},
)
django.setup()
from django.contrib.auth.models import User
from rest_framework.test import APIClient

client = APIClient()
client.force_authenticate(User.objects.get(username=sys.argv[2]))
answers = [client.get("/v1/pause-queue/"), client.get("/v1/capacity/"), client.get("/v1/agents/nowhere/capacity")]
print(json.dumps([[answer.status_code, answer.json()] for answer in answers]))
assert not [name for name in sys.modules if name.split(".")[0] in ("automation", "backend")]
"""


@pytest.fixture
def entry() -> PauseQueueEntry:
    manager.pause_work([WithheldDispatch("import:1", "shop.restock", "shop", Needs())], reason="full")
    return PauseQueueEntry.objects.get(ref="import:1")


def person(name: str, *codenames: str) -> User:
    user = User.objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return User.objects.get(pk=user.pk)


def test_who_may_view_entries_reads_all_and_who_may_change_them_changes_all(entry: PauseQueueEntry):
    reader = client_of(person("vera", "view_pausequeueentry"))
    writer = client_of(person("will", "change_pausequeueentry"))

    assert [row["ref"] for row in reader.get(QUEUE).data["results"]] == ["import:1"]
    assert reader.get("/api/v1/capacity/").status_code == 200
    refused = reader.post(f"{QUEUE}{entry.pk}/drop/")
    assert (refused.status_code, refused.data["code"]) == (403, "permission_denied")
    assert "pause_manager.change_pausequeueentry or automation.operate_automationrun" in refused.data["message"]
    assert writer.get(QUEUE).status_code == 403
    assert writer.post(f"{QUEUE}{entry.pk}/drop/", {"reason": "obsolete"}).status_code == 200
    entry.refresh_from_db()
    assert entry.outcome == "dropped"


def test_without_a_permission_nothing_is_shown_and_the_refusal_names_one(entry: PauseQueueEntry):
    refused = client_of(person("nobody")).get(QUEUE)

    assert refused.status_code == 403
    assert "pause_manager.view_pausequeueentry or automation.view_automationrun" in refused.data["message"]


def test_a_permission_over_runs_shows_no_entry_of_other_work(entry: PauseQueueEntry):
    user = person("olga", "view_automationrun", "operate_automationrun")

    assert client_of(user).get(QUEUE).data["results"] == []
    assert client_of(user).post(f"{QUEUE}{entry.pk}/drop/").status_code == 404
    assert list(workloads.visible_entries(user)) == []


@pytest.mark.slow
def test_it_needs_no_engine(entry: PauseQueueEntry):
    person("vera", "view_pausequeueentry")
    told = {**connection.settings_dict, "CONN_HEALTH_CHECKS": False}
    database = {name: told[name] for name in ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")}

    ran = subprocess.run(
        [sys.executable, "-c", PROJECT, json.dumps(database), "vera"], capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 0, ran.stderr
    queue, capacity, nowhere = json.loads(ran.stdout)
    assert (queue[0], [row["ref"] for row in queue[1]["results"]]) == (200, ["import:1"])
    assert (capacity[0], capacity[1]["verdicts"]) == (200, [])
    assert (nowhere[0], nowhere[1]["code"]) == (404, "not_found")
