"""``latest`` and the beginning of an id name a run in every door, and what is not clear is told with the candidates."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from django.test import Client

from automation.models import AutomationRun, Site
from automation.runs import creation, lifecycle
from tests.support.api_users import AUTOMATION, make_user
from tests.support.factories import OPERATOR, make_site

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = f"{AUTOMATION}runs/"


@pytest.fixture
def site() -> Site:
    return make_site("ours")


@pytest.fixture
def client(site: Site) -> Client:
    client = Client()
    client.force_login(make_user("olga", site, "view_automationrun", "operate_automationrun"))
    return client


def create(site: Site, pk: str) -> AutomationRun:
    """A run with the id ``pk``."""
    made = creation.create("drill", site=site, actor=OPERATOR, start=False)
    AutomationRun.objects.filter(pk=made.pk).delete()
    return AutomationRun.objects.create(
        pk=UUID(pk), site=site, pipeline="drill", params=made.params, total_items=100, created_by="test"
    )


@pytest.fixture
def alike(site: Site) -> list[AutomationRun]:
    """Two runs whose ids begin alike."""
    return [create(site, f"abcd1234-0000-4000-8000-00000000000{n}") for n in (1, 2)]


def test_rest_takes_what_the_shell_takes(client, site, shell):
    older, newer = (creation.create("drill", site=site, actor=OPERATOR) for _ in range(2))

    for name, run in (("latest", newer), (str(older.pk)[:8], older), (older.pk.hex.upper(), older)):
        assert client.get(f"{RUNS}{name}/").json()["id"] == str(run.pk)
        assert client.get(f"{RUNS}{name}/explain/").status_code == 200
        assert str(run.pk) in shell("explain_run", name).out
    answer = client.post(f"{RUNS}latest/pause/", {"reason": "lunch"}, content_type="application/json")
    assert (answer.json()["id"], answer.json()["status"]) == (str(newer.pk), "paused")
    assert client.get(f"{AUTOMATION}logs/?run_id=latest").json()["run_id"] == str(newer.pk)


def test_the_page_of_a_name_leads_to_the_page_of_the_run(client, site):
    run = creation.create("drill", site=site, actor=OPERATOR)

    for name in ("latest", str(run.pk)[:8]):
        assert client.get(f"/runs/{name}/")["Location"] == f"/runs/{run.pk}/"
    assert client.get("/runs/0000aaaa/").status_code == 404
    assert client.get("/runs/no-such/").status_code == 404


def test_several_that_begin_so_are_listed_in_every_door(client, alike, shell):
    rest, page, said = client.get(f"{RUNS}abcd1234/"), client.get("/runs/abcd1234/"), shell("pause_run", "abcd1234")

    assert (rest.status_code, rest.json()["code"]) == (409, "run_ambiguous")
    assert (page.status_code, said.code) == (404, 2)
    for told in (rest.json()["message"], page.content.decode(), said.err):
        assert "several ids begin so" in told
        assert all(str(run.pk) in told for run in alike)


def test_a_name_means_only_what_one_may_see(client, site):
    ours = creation.create("drill", site=site, actor=OPERATOR)
    theirs = creation.create("drill", site=make_site("theirs"), actor=OPERATOR)

    assert client.get(f"{RUNS}latest/").json()["id"] == str(ours.pk)
    assert client.get(f"{RUNS}{str(theirs.pk)[:8]}/").status_code == 404
    assert client.get(f"/runs/{str(theirs.pk)[:8]}/").status_code == 404


@pytest.mark.parametrize("name", ["abc", "nothing-so", "g" * 32, "0" * 33])
def test_what_is_no_name_is_not_found_and_the_shell_says_what_is_one(client, name, shell):
    said = shell("explain_run", name)

    assert client.get(f"{RUNS}{name}/").status_code == 404
    assert said.code == 2
    assert "its first 4 or more digits, or 'latest'" in said.err


def test_without_any_run_the_latest_is_not_found(client, shell):
    assert client.get(f"{RUNS}latest/").status_code == 404
    assert shell("explain_run", "latest").code == 4


def test_deleting_takes_a_whole_id_so_that_a_repeat_means_the_same_run(site):
    from django.contrib.auth.models import User

    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    run = creation.create("drill", site=site, actor=OPERATOR)
    lifecycle.cancel(run.pk, actor=OPERATOR)

    answer = client.delete(f"{RUNS}latest/?confirmation=yes")

    assert answer.status_code == 404, json.loads(answer.content)
    assert "expected its whole id" in answer.json()["message"]
    assert AutomationRun.objects.present().filter(pk=run.pk).exists()
