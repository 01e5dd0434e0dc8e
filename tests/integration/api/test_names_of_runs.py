"""A run is called over HTTP and MCP as in a shell: by its id, the beginning of it, or ``latest``."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.test import Client
from rest_framework.authtoken.models import Token

from automation.models import AutomationRun
from tests.callers import AUTOMATION, RUNS
from tests.factories import make_run

pytestmark = pytest.mark.django_db


def test_the_latest_and_a_short_id_are_of_those_that_the_caller_sees(api: Any, site: Any, their_site: Any) -> None:
    old, new = make_run(site=site), make_run(site=site)
    theirs = make_run(site=their_site)

    assert api.get(f"{RUNS}latest/").json()["id"] == str(new.pk)
    assert api.get(f"{RUNS}{str(old.pk)[:8]}/").json()["id"] == str(old.pk)
    assert api.get(f"{RUNS}{str(old.pk).upper()[:13]}/progress/").status_code == 200
    assert api.get(f"{AUTOMATION}logs/?run_id=latest").json()["run_id"] == str(new.pk)
    assert api.post(f"{RUNS}latest/pause/", {}).json()["id"] == str(new.pk)
    assert api.get(f"{RUNS}{str(theirs.pk)[:8]}/").status_code == 404


@pytest.mark.parametrize("wrong", ["", "abc", "late", "zzzz", "0" * 33, "%00", "latest2"])
def test_what_is_no_name_of_a_run_is_not_found(api: Any, site: Any, wrong: str) -> None:
    make_run(site=site)
    answer = api.get(f"{RUNS}{wrong or '-'}/")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_of_several_that_begin_so_none_is_guessed(api: Any, site: Any) -> None:
    run = make_run(site=site)
    row = AutomationRun.objects.filter(pk=run.pk).values().get()
    for last in (1, 2):
        AutomationRun.objects.create(**row | {"id": uuid.UUID(f"abcdef00-0000-4000-8000-00000000000{last}")})

    answer = api.get(f"{RUNS}abcdef/")

    assert answer.status_code == 404
    assert answer.json()["message"] == "Cannot tell which run abcdef is: several begin so. Give more of its id."


def test_nothing_is_deleted_by_half_a_name(api: Any, site: Any, operator: Any) -> None:
    from django.contrib.auth.models import Permission, User

    operator.user_permissions.add(Permission.objects.get(codename="delete_automationrun"))
    run = make_run(site=site)
    AutomationRun.objects.filter(pk=run.pk).update(lifecycle="completed", finished_at=run.created_at)
    api.force_authenticate(User.objects.get(pk=operator.pk))

    for name in ("latest", str(run.pk)[:8]):
        assert api.delete(f"{RUNS}{name}/?confirmation=yes").status_code == 404
    run.refresh_from_db()
    assert run.deleted_at is None


@pytest.mark.django_db(transaction=True)
def test_a_tool_takes_the_same_names_and_the_server_has_a_version(site: Any, operator: Any) -> None:
    run = make_run(site=site)
    client = Client(headers={"Authorization": f"Bearer {Token.objects.create(user=operator).key}"})

    def ask(method: str, **params: Any) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"Accept": "application/json, text/event-stream"}
        return client.post("/mcp", json.dumps(message), content_type="application/json", headers=headers).json()

    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    server = ask("initialize", **hello)["result"]["serverInfo"]
    found = [ask("tools/call", name="runs.show", arguments={"run_id": name}) for name in ("latest", str(run.pk)[:8])]

    assert server["version"]
    assert [one["result"]["structuredContent"]["id"] for one in found] == [str(run.pk)] * 2
