"""The doors of resources: API, shell, admin and metrics."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client

from automation import gate
from pause_manager import resources
from pause_manager.actor import Actor
from pause_manager.fleet import bulk_holds
from pause_manager.models import ControlEvent, Hold, Resource
from tests.support.api_users import client_of, make_user
from tests.support.factories import OPERATOR, claim, make_run
from tests.support.scrape import Scrape

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1/resources/"
STAGE = Actor("stage:ask/ask", "worker")


@pytest.fixture
def boss():
    return client_of(User.objects.create_superuser("boss"))


def test_what_a_stage_declares_is_listed_open_and_without_a_limit(boss):
    (found,) = [one for one in boss.get(URL).json() if one["name"] == "provider"]

    assert (found["state"], found["max_at_once"], found["in_use"]) == ("open", None, 0)
    assert found["sentence"] == "Open, without a limit; 0 in use."


def test_limits_are_set_and_taken_away_and_the_trail_says_by_whom(boss):
    answer = boss.patch(f"{URL}provider/", {"max_at_once": 2, "max_per_minute": 60, "reason": "the contract"})
    run = make_run("ask", items=30)
    assert all(claim(run, name) for name in "ab")
    assert claim(run, "c") is None

    shown = boss.get(f"{URL}provider/").json()
    without = boss.patch(f"{URL}provider/", {"max_at_once": None})

    assert answer.status_code == 200
    assert (shown["in_use"], shown["max_per_minute"]) == (2, 60)
    assert shown["sentence"] == "Limited to 2 at once and 60 starts a minute; 2 in use."
    assert without.json()["max_at_once"] is None
    assert without.json()["max_per_minute"] == 60
    assert claim(run, "c") is not None
    first, _ = ControlEvent.objects.filter(action="resource_limited").order_by("id")
    assert (first.actor, first.reason, first.after) == (
        "user:boss",
        "the contract",
        {"max_at_once": 2, "max_per_minute": 60},
    )


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("provider", {"max_at_once": 0}, "greater than or equal to 1"),
        ("provider", {"max_at_once": "many"}, "valid integer"),
        ("provider", {"at_once": 3}, "expected one of"),
        ("Open AI", {"max_at_once": 3}, "expected lower-case letters"),
    ],
)
def test_a_wrong_limit_is_refused_with_what_is_allowed(boss, name, body, said):
    answer = boss.patch(f"{URL}{name}/", body)

    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert not Resource.objects.filter(max_at_once__isnull=False).exists()


def test_one_that_nobody_uses_is_not_found_and_the_answer_names_those_that_are(boss):
    answer = boss.get(f"{URL}opnai/")

    assert answer.status_code == 404
    assert "provider" in answer.json()["message"]


def test_only_operators_of_the_fleet_change_it(boss):
    onlooker = client_of(make_user("walter", None))

    assert onlooker.get(URL).status_code == 200
    assert onlooker.patch(f"{URL}provider/", {"max_at_once": 1}).status_code == 403
    assert onlooker.post(f"{URL}provider/probe/", {}).status_code == 403
    assert client_of(None).get(URL).status_code == 401


def test_it_is_held_and_released_like_any_other_scope(boss):
    run = make_run("ask", items=4)
    boss.post("/api/v1/holds/", {"scopes": ["resource:provider"], "reason": "the bill", "expires_in_seconds": 3600})

    shown = boss.get(f"{URL}provider/").json()
    assert shown["sentence"].startswith("Held by boss: the bill, until ")
    assert shown["holds"][0]["kind"] == "operator"
    (reason,) = gate.explain(run)
    assert reason.sentence == "The resource provider was paused by boss: the bill."
    assert claim(run) is None
    assert [hold["scope"] for hold in boss.get("/api/v1/holds/?scope=resource:*").json()] == ["resource:provider"]

    boss.post("/api/v1/holds/release/", {"scopes": ["resource:*"]})

    assert claim(run) is not None


def test_a_hold_on_a_name_that_nothing_uses_is_warned_of_and_an_impossible_one_refused(boss):
    assert "known: " in " ".join(bulk_holds.unknown(["resource:opnai"]))
    assert bulk_holds.unknown(["resource:provider"]) == []

    answer = boss.post("/api/v1/holds/", {"scopes": ["resource:OpenAI"]})

    assert answer.status_code == 400
    assert "lower-case" in answer.json()["message"]


def test_one_that_said_too_much_is_shown_so_and_asked_again_at_once(boss):
    resources.throttle("provider", 300, actor=STAGE, told="stage ask of ask")

    shown = boss.get(f"{URL}provider/").json()
    probed = boss.post(f"{URL}provider/probe/", {"reason": "it is back"}).json()

    assert shown["state"] == "held"
    assert "It said “too much” at " in shown["sentence"]
    assert " to stage ask of ask; it is asked again at " in shown["sentence"]
    assert (probed["state"], probed["permitted"]) == ("probing", 1)
    assert not Hold.objects.active().exists()


def test_the_shell_lists_limits_and_probes(shell):
    listed = shell("resource", "list", "--json")
    limited = shell("resource", "limit", "provider", "--at-once", "3", "--per-minute", "none")
    wrong = shell("resource", "limit", "provider", "--at-once", "0")
    nothing = shell("resource", "limit", "provider")
    unknown = shell("resource", "show", "opnai", "--json")

    assert "openai" in [one["name"] for one in listed.objects]
    assert (limited.code, limited.out) == (0, "provider  open  Limited to 3 at once; 0 in use.\n"), limited.err
    assert Resource.objects.get(name="provider").max_at_once == 3
    assert wrong.code == 2
    assert "expected a whole number above 0 or none" in wrong.err
    assert nothing.code == 2
    assert (unknown.code, json.loads(unknown.err)["error"]) == (4, "not_found")


def test_the_admin_holds_releases_and_probes():
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    resources.throttle("provider", 300, actor=STAGE, told="stage ask of ask")
    row = Resource.objects.get()

    def act(action: str) -> str:
        form = {"action": action, "_selected_action": [row.pk], "reason": "dust"}
        answer = client.post("/admin/pause_manager/resource/", form, follow=True)
        return " ".join(str(message) for message in answer.context["messages"])

    assert act("probe_resources") == "provider is asked again now."
    assert act("probe_resources") == "Cannot ask provider again: it does not wait."
    assert act("hold_resources") == "Held: resource:provider."
    assert act("release_resources") == "Released: resource:provider."


def test_metrics_tell_state_use_limit_and_what_waits():
    resources.set_limits("provider", {"max_at_once": 1}, actor=OPERATOR)
    busy, _ = make_run("ask", items=2), make_run("ask", items=2)
    assert claim(busy) is not None

    told = Scrape.of_the_view()

    assert told.value("slackwater_resource_state", resource="provider", state="open") == 1
    assert told.value("slackwater_resource_in_use", resource="provider") == 1
    assert told.value("slackwater_resource_limit", resource="provider") == 1
    assert told.value("slackwater_resource_waiting", resource="provider") == 1
