"""Holds by the dozen: over HTTP, in the admin and from the shell."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from pause_manager import holds
from pause_manager.errors import InvalidHold
from pause_manager.fleet import bulk_holds
from pause_manager.models import ControlEvent, Hold, WorkerNode
from pause_manager.nodes import members
from tests.support.api_users import client_of, make_user
from tests.support.factories import OPERATOR, claim, make_run
from tests.support.node_factories import make_node

URL = "/api/v1/holds/"
RELEASE = f"{URL}release/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def boss():
    return client_of(make_user("olga", None, "operate_fleet"))


def active() -> dict[str, str]:
    return dict(Hold.objects.active().values_list("scope", "mode"))


def test_many_are_placed_changed_and_released_by_pattern_with_one_event_each(boss):
    make_node("n1")
    make_node("n2")
    members.acknowledge("w@n1", node="n1", queues=["gpu"], version=1)

    placed = boss.post(URL, {"scopes": ["node:*", "queue:*", "pipeline:few"], "reason": "storm"})
    again = boss.post(URL, {"scopes": ["node:*"], "reason": "storm", "mode": "quiesce"})
    same = boss.post(URL, {"scopes": ["node:n1", "lane:a"], "reason": "storm", "mode": "quiesce"})

    assert placed.json() == {
        "placed": ["node:n1", "node:n2", "pipeline:few", "queue:gpu"],
        "altered": [],
        "unchanged": [],
    }
    assert again.json() == {"placed": [], "altered": ["node:n1", "node:n2"], "unchanged": []}
    assert same.json() == {"placed": ["lane:a"], "altered": [], "unchanged": ["node:n1"]}
    assert active() == {
        "node:n1": "quiesce",
        "node:n2": "quiesce",
        "pipeline:few": "drain",
        "queue:gpu": "drain",
        "lane:a": "quiesce",
    }
    listed = boss.get(f"{URL}?scope=node:*").json()
    assert [(hold["scope"], hold["actor"]) for hold in listed] == [("node:n2", "user:olga"), ("node:n1", "user:olga")]
    assert boss.get(f"{URL}?limit=1&before={listed[0]['id']}").json()[0]["id"] < listed[0]["id"]

    released = boss.post(RELEASE, {"scopes": ["node:*", "queue:none"], "reason": "over"})
    assert released.json() == {"released": ["node:n1", "node:n2"], "not_held": ["queue:none"]}
    told = ControlEvent.objects.filter(scope="node:n1").order_by("pk").values_list("action", flat=True)
    assert list(told) == ["hold_placed", "hold_altered", "hold_released"]
    assert len(boss.get(f"{URL}?released=true").json()) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (URL, {"scopes": ["fleet"]}),
        (URL, {"scopes": ["run:1"]}),
        (URL, {"scopes": ["pipeline:*"]}),
        (URL, {"scopes": ["node:*"]}),
        (URL, {"scopes": ["nonsense"]}),
        (URL, {"scopes": []}),
        (URL, {"scopes": ["queue:a", "queue:b\x00"]}),
        (URL, {"scopes": ["queue:a"], "on_expiry": "cancel"}),
        (URL, {"scopes": ["queue:a"], "expires_in_seconds": 0}),
        (RELEASE, {"scopes": ["fleet"]}),
        (RELEASE, {}),
    ],
)
def test_what_cannot_be_held_so_is_said_and_nothing_is_held(boss, path, body):
    response = boss.post(path, body)

    assert response.status_code == 400
    assert response.json()["message"]
    assert not active()


def test_nobody_releases_what_is_not_an_operators(boss):
    holds.place(["queue:gpu"], kind=Hold.Kind.BUDGET, actor=OPERATOR)
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")

    assert boss.post(RELEASE, {"scopes": ["queue:gpu", "queue:*"]}).json()["not_held"] == ["queue:gpu"]
    assert set(active()) == {"queue:gpu", "fleet"}


def test_only_operators_of_the_fleet_hold_and_see_holds_on_runs(boss):
    run = make_run("few", items=1)
    holds.place([run.scope, "queue:gpu"], actor=OPERATOR)
    onlooker = client_of(make_user("walter", None))

    assert [hold["scope"] for hold in onlooker.get(URL).json()] == ["queue:gpu"]
    assert len(boss.get(URL).json()) == 2
    assert onlooker.post(URL, {"scopes": ["queue:x"]}).status_code == 403
    assert onlooker.post(RELEASE, {"scopes": ["queue:gpu"]}).status_code == 403
    assert client_of(None).get(URL).status_code == 401


def test_a_repeat_with_the_key_is_told_the_same(boss):
    first = boss.post(URL, {"scopes": ["queue:x"]}, headers={"Idempotency-Key": "one"})

    again = boss.post(URL, {"scopes": ["queue:x"]}, headers={"Idempotency-Key": "one"})

    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert Hold.objects.get().idempotency_key == "one"


def test_a_timed_hold_ends_as_chosen():
    run = make_run("few", items=1)
    bulk_holds.place(["pipeline:few"], mode="drain", actor=OPERATOR, expires_in=timedelta(hours=1), on_expiry="quiesce")
    bulk_holds.place(["queue:stages"], mode="drain", actor=OPERATOR, expires_in=timedelta(hours=1))
    assert claim(run) is None
    Hold.objects.update(expires_at="2020-01-01T00:00:00Z")

    assert holds.expire() == 2

    assert active() == {"pipeline:few": "quiesce"}
    with pytest.raises(InvalidHold):
        bulk_holds.place(["pipeline:few"], mode="drain", actor=OPERATOR, on_expiry="cancel")


def test_the_admin_holds_and_releases_and_says_what_it_did_not():
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    node = make_node("n1")
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")
    holds.place(["queue:x"], kind=Hold.Kind.BUDGET, actor=OPERATOR)

    def act(model: str, action: str, *rows) -> str:
        form = {"action": action, "_selected_action": [row.pk for row in rows], "reason": "dust"}
        answer = client.post(f"/admin/pause_manager/{model}/", form, follow=True)
        return " ".join(str(message) for message in answer.context["messages"])

    assert act("workernode", "hold_nodes", node) == "Held: node:n1."
    assert act("workernode", "hold_nodes", node) == "Nothing to do: the selected nodes are already held."
    assert Hold.objects.get(scope="node:n1").reason == "dust"
    said = act("hold", "release_selected", *Hold.objects.all())
    assert "Released: node:n1." in said
    assert "use the fleet switch" in said
    assert "it is not an operator's" in said
    assert "Not held" in act("workernode", "release_nodes", node)
    assert set(active()) == {"fleet", "queue:x"}
    assert WorkerNode.objects.count() == 1
    for model in ("controlstate", "fleetworker"):
        assert client.get(f"/admin/pause_manager/{model}/").status_code == 200


def test_the_shell_places_lists_and_releases(shell):
    make_node("n1")

    placed = shell("hold", "place", "node:*", "queue:gpu", "--reason", "dust", "--for", "10m", "--then", "keep")
    listed = shell("hold", "list", "--json")
    refused = shell("hold", "place", "fleet", "--json")
    released = shell("hold", "release", "node:*", "--json")

    assert (placed.code, placed.out) == (0, "placed: node:n1, queue:gpu\n"), placed.err
    assert [(hold["scope"], hold["on_expiry"]) for hold in listed.objects] == [
        ("node:n1", "keep"),
        ("queue:gpu", "keep"),
    ]
    assert (refused.code, json.loads(refused.err)["error"]) == (2, "hold_invalid")
    assert released.objects == [{"released": ["node:n1"], "not_held": []}]
    assert shell("hold", "place", "queue:x", "--for", "soon").code == 2
    assert set(active()) == {"queue:gpu"}
