"""The fleet page through Django's client: what it shows to whom, and what its buttons do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from pause_manager import fleet, holds
from pause_manager.capacity import NodeState
from pause_manager.models import Hold
from pause_manager.nodes import members, registry
from pause_manager.nodes.persisted_state import PersistedNodeState
from tests.support.factories import OPERATOR, leased, make_run
from tests.support.node_factories import make_node
from tests.support.sampled_fleet import gpu

pytestmark = pytest.mark.django_db(transaction=True)

FLEET = "/fleet/"


def client_of(*permissions: str) -> Client:
    user = User.objects.create_user("flora")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client) -> str:
    answer = client.get(FLEET)
    assert answer.status_code == 200
    return answer.content.decode()


def act(client: Client, do: str, **fields: str) -> tuple[int, dict[str, Any]]:
    answer = client.post(FLEET, {"do": do, **fields})
    return answer.status_code, json.loads(answer.content) if answer.status_code in (200, 409) else {}


def words_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_an_operator_pauses_and_resumes_the_fleet() -> None:
    client = client_of("operate_fleet")
    assert "Pause the fleet" in page(client)

    paused = act(client, "pause", mode="quiesce", reason="upgrade")

    assert paused == (200, {"done": "Fleet paused (quiesce).", "location": "", "problems": []})
    state = fleet.state()
    assert (state.is_paused, state.mode, state.requested_by) == (True, "quiesce", "user:flora")
    assert "Drained, safe to upgrade" in page(client)
    assert act(client, "resume", reason="upgraded")[0] == 200
    assert not fleet.state().is_paused


def test_a_deadline_turns_the_drain_into_a_quiesce_and_nonsense_is_refused() -> None:
    client = client_of("operate_fleet")

    status, told = act(client, "pause", reason="upgrade", deadline="soon")
    assert (status, fleet.state().is_paused) == (409, False)
    assert "expected whole minutes from 1 to 527,040, got: soon" in told["refused"]
    assert act(client, "pause", reason=" ")[0] == 409

    assert act(client, "pause", reason="upgrade", deadline="30")[0] == 200
    hold = Hold.objects.get(scope="fleet", released_at=None)
    assert hold.expires_at is not None
    assert 29 < (hold.expires_at - hold.created_at).total_seconds() / 60 <= 30
    assert hold.on_expiry == "quiesce"


def test_an_undrained_fleet_is_resumed_by_force_alone_and_the_page_asks_for_it() -> None:
    client = client_of("operate_fleet")
    leased(make_run())
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)

    shown = page(client)
    status, told = act(client, "resume", reason="in a hurry")

    assert "Draining, 1 left" in words_of(shown)
    assert "Resume although work is still running?" in shown
    assert "force&quot;: &quot;1&quot;" in shown
    assert (status, fleet.state().is_paused) == (409, True)
    assert "not drained" in told["refused"]
    assert act(client, "resume", reason="in a hurry", force="1")[0] == 200
    assert not fleet.state().is_paused


def test_who_may_not_operate_sees_figures_and_neither_buttons_nor_names_of_work() -> None:
    run = make_run()
    leased(run)
    holds.place([run.scope, "lane:secret", "queue:stages"], actor=OPERATOR, reason="of one account")
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)

    viewer = page(client_of())

    assert "Draining, 1 left" in words_of(viewer)
    assert "queue:stages" in viewer
    assert not re.search("data-ask=", viewer.partition('id="content"')[2].partition("</main>")[0])
    assert "lane:secret" not in viewer
    assert str(run.pk)[:8] not in viewer
    assert Client().get(FLEET).status_code == 302


def test_a_viewer_cannot_act() -> None:
    client = client_of()

    assert {act(client, verb, reason="x", scope="node:n1")[0] for verb in ("pause", "resume", "hold", "release")} == {
        403
    }
    assert not Hold.objects.exists()


def test_machines_show_who_uses_them_what_is_left_and_problems_in_words() -> None:
    make_node(
        "box-1", cores=8.0, foreign_cores=2.0, gpus=(gpu(free=6_000), gpu(1, free=None, problem="fell off the bus"))
    )
    make_node("box-2", is_live=False, age_seconds=300)

    shown = page(client_of())

    words = words_of(shown)
    assert "6 of 8 free" in words
    assert "5.9 GiB of 23.4 GiB free" in words
    assert "fell off the bus" in words
    assert re.search(r"box-2 Silent last seen 5 min", words)
    assert words.index("box-2") < words.index("box-1"), "those with a problem come first"
    bar = re.search(r'aria-label="box-1, Cores: ([^"]+)"', shown)
    assert bar is not None
    assert bar[1] == "0 ours, 0 reserved, 2 others, 6 of 8 free"
    assert 'style="' not in shown


def test_a_saturated_machine_says_so() -> None:
    make_node("box-1")
    registry.save_state("box-1", PersistedNodeState(NodeState(is_saturated=True)))
    registry.set_consuming("box-1", False)

    assert re.search("box-1 Saturated live", words_of(page(client_of())))


def test_a_machine_is_held_for_a_while_and_released() -> None:
    make_node("box-1")
    client = client_of("operate_fleet")

    status, told = act(client, "hold", scope="node:box-1", reason="new disk", minutes="90")

    hold = Hold.objects.get(scope="node:box-1", released_at=None)
    assert (status, told["problems"]) == (200, [])
    assert hold.expires_at is not None
    words = words_of(page(client))
    assert "box-1 Held" in words
    assert "new disk" in words
    assert act(client, "release", scope="node:box-1", reason="done")[0] == 200
    assert not Hold.objects.active().exists()
    assert act(client, "release", scope="node:box-1")[0] == 409


def test_a_hold_on_what_nobody_knows_is_placed_with_a_warning_and_the_fleet_has_its_switch() -> None:
    client = client_of("operate_fleet")

    _, told = act(client, "hold", subject="node", name="gpu-7", reason="new disk")
    status, refused = act(client, "hold", scope="fleet", reason="all")

    assert "No node is called gpu-7 now" in told["problems"][0]
    assert Hold.objects.active().get().scope == "node:gpu-7"
    assert status == 409
    assert "use the fleet switch" in refused["refused"]


def test_workers_that_lag_are_told_first() -> None:
    members.acknowledge("a@box-1", node="box-1", queues=["stages"], version=fleet.state().version, places=4)
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    members.acknowledge("b@box-1", node="box-1", queues=["stages"], version=fleet.state().version, places=4)

    words = words_of(page(client_of()))

    assert "1 of 2" in words
    assert words.index("a@box-1 box-1") < words.index("b@box-1 box-1")
    assert "Lagging: has not acknowledged the last change" in words


def test_a_state_that_cannot_be_read_is_said_and_the_rest_of_the_page_is_there() -> None:
    make_node("box-1")
    client = client_of("operate_fleet")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE pause_manager_controlstate RENAME TO hidden_state")
    try:
        shown = page(client)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE hidden_state RENAME TO pause_manager_controlstate")

    assert "Workers: unknown" in words_of(shown)
    assert "The state of the fleet cannot be read." in shown
    assert "box-1" in shown
    assert 'id="fleet-control"' not in shown


def test_the_page_costs_the_same_statements_however_many_machines_there_are(settings: Any) -> None:
    # A machine that falls silent meanwhile costs a statement.
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "missed_samples": 300}
    client = client_of("operate_fleet")

    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            page(client)
        return len(queries)

    make_node("box-0")
    page(client)
    before = statements()
    for number in range(1, 12):
        make_node(f"box-{number}")
        holds.place([f"node:box-{number}"], actor=OPERATOR, reason="new disk")

    assert statements() == before
    assert before <= 40


def test_the_palette_finds_machines_holds_and_the_switch() -> None:
    make_node("box-1")
    holds.place(["queue:nightly"], actor=OPERATOR, reason="vendor")
    client = client_of("operate_fleet")

    def titles(text: str) -> list[str]:
        return [hit["title"] for hit in client.get("/find/", {"q": text}).json()["hits"]]

    assert titles("box") == ["box-1", "Hold box-1"]
    assert titles("pause the fl") == ["Pause the fleet (drain)", "Pause the fleet (quiesce)"]
    assert "Release queue:nightly" in titles("nightly")
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    assert "Resume the fleet" in titles("resume")
