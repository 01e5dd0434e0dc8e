"""Nodes, what they have left, and the pause queue over HTTP."""

from __future__ import annotations

import pytest
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from tests.support.api_users import client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]

API = "/api/v1/"
REQUESTS = [
    ("get", "capacity/", 200),
    ("get", "agents/here/capacity", 200),
    ("get", "agents/available-capacity", 200),
    ("get", "pause-queue/", 200),
    ("post", "pause-queue/{entry}/force-resume/", 200),
    ("post", "pause-queue/{entry}/force-pause/", 200),
]


@pytest.fixture
def watching(settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True, "missed_samples": 300}


@pytest.fixture
def fleet(site):
    from tests.support import sampled_fleet

    sampled_fleet.node(
        "here",
        cores=8,
        foreign=8,
        gpus=(sampled_fleet.gpu(free=20_000), sampled_fleet.gpu(1, problem="fell off the bus")),
    )
    return sampled_fleet


@pytest.fixture
def entry(fleet, site):
    from pause_manager.models import PauseQueueEntry
    from tests.support.factories import make_run

    run = make_run(site=site)
    return PauseQueueEntry.objects.get(ref=run.scope)


def send(user, method, path, entry):
    return getattr(client_of(user), method)(API + path.format(entry=entry.pk))


def is_waiting(entry):
    from pause_manager.models import PauseQueueEntry

    return PauseQueueEntry.objects.waiting().filter(pk=entry.pk).exists()


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
def test_answers_are_as_the_schema_says(entry, operator, method, path, status):
    schema = SchemaGenerator().get_schema(request=None, public=True)
    named = API + path.replace("here", "{agent_id}").replace("{entry}", "{entry_id}")
    body = schema["paths"][named][method]["responses"]["200"]["content"]["application/json"]["schema"]

    answer = send(operator, method, path, entry)

    Draft202012Validator({**body, "components": schema["components"]}).validate(answer.json())


@pytest.mark.req("P-31")
def test_capacity_shows_nodes_and_a_verdict_for_each_stage(api, entry):
    from automation.pipeline import all_pipelines

    told = api.get(f"{API}capacity/").data

    (node,) = told["nodes"]
    assert (node["id"], node["is_online"], node["held"]) == ("here", True, None)
    assert (node["cores"], node["foreign_cores"], node["room_cores"], node["free_share"]) == (8, 8, 0, 0)
    assert [(gpu["free_mib"], gpu["room_mib"]) for gpu in node["gpus"]] == [(20_000, 20_000), (24_000, None)]
    assert len(told["verdicts"]) == sum(len(pipeline.stages) for pipeline in all_pipelines())
    (numbers,) = (verdict for verdict in told["verdicts"] if verdict["pipeline"] == "numbers")
    assert (numbers["should_pause"], numbers["code"]) == (True, "below_threshold")
    assert numbers["figures"]["threshold"] == 0.2


def test_the_containers_of_a_node_are_listed(api, fleet):
    from dataclasses import replace

    from pause_manager import nodes
    from pause_manager.capacity.snapshot import ContainerView
    from pause_manager.probes.sample import Sample

    bounded = ContainerView(
        "box-a~1", "box-a", own_cores=0.5, own_memory_mib=300, cores=2.0, memory_mib=4_000, free_memory_mib=3_000
    )
    free = ContainerView("box-b~2", "box-b", gpus=("GPU-0",), gpu_numbers=(0,))
    sample = Sample(replace(fleet.node("here", gpus=(fleet.gpu(),)), containers=(bounded, free)))
    nodes.save_sample(sample)
    nodes.announce(sample)

    answers = [api.get(f"{API}capacity/").data["nodes"][0], api.get(f"{API}agents/here/capacity").data]

    for node in answers:
        first, second = node["containers"]
        assert (first["label"], first["cores"], first["memory_mib"], first["free_memory_mib"]) == (
            "box-a",
            2.0,
            4_000,
            3_000,
        )
        assert (first["own_cores"], first["own_memory_mib"], first["gpus"]) == (0.5, 300, [])
        assert (second["label"], second["cores"], second["memory_mib"], second["gpus"]) == (
            "box-b",
            None,
            None,
            ["GPU-0"],
        )


def test_what_our_work_has_reserved_is_shown(api, fleet, site):
    from automation.models import WorkSlice
    from tests.support.factories import leased, make_run

    fleet.node("node-1", cores=8)
    leased(make_run(site=site))

    node = api.get(f"{API}agents/node-1/capacity").data

    (load,) = node["loads"]
    assert load["ref"] == f"slice:{WorkSlice.objects.leased().get().pk}"
    assert (load["needs"]["cpu"], node["room_cores"]) == (1.0, 7.0)


@pytest.mark.req("P-33")
def test_one_node(api, fleet):
    assert api.get(f"{API}agents/here/capacity").data["id"] == "here"
    unknown = api.get(f"{API}agents/nowhere/capacity")
    assert (unknown.status_code, unknown.data["code"]) == (404, "not_found")
    bad = api.get(f"{API}agents/-not;a%20name/capacity")
    assert (bad.status_code, bad.data["code"]) == (400, "node_id_invalid")


@pytest.mark.req("P-33")
def test_nodes_that_have_room(api, fleet):
    from pause_manager import holds
    from tests.support.factories import OPERATOR

    fleet.node("big", cores=16, foreign=2, gpus=(fleet.gpu(total=80_000, free=60_000),))
    fleet.node("gone", cores=64)
    fleet.vanish("gone")

    def found(query=""):
        return [node["id"] for node in api.get(f"{API}agents/available-capacity{query}").data]

    assert found() == ["big", "here"]
    assert found("?min_cpu_cores=14") == ["big"]
    assert found("?min_gpu_vram_gb=19") == ["big", "here"]
    assert found("?min_gpu_vram_gb=20") == ["big"]
    assert found("?min_gpu_vram_gb=500") == []
    holds.place(["node:big"], actor=OPERATOR, reason="repairs")
    assert found("?min_cpu_cores=14") == []
    assert api.get(f"{API}agents/available-capacity?min_cpu_cores=lots").status_code == 400
    assert api.get(f"{API}agents/available-capacity?min_cpus=1").status_code == 400


def test_the_queue_is_paged_in_the_order_of_resumption(api, fleet, site):
    from tests.support.factories import make_run

    refs = [make_run(site=site).scope for _ in range(5)]

    page, found = api.get(f"{API}pause-queue/?limit=2").data, []
    while True:
        found += page["results"]
        if page["next"] is None:
            break
        page = api.get(page["next"]).data

    assert [entry["ref"] for entry in found] == refs
    assert "only with 1.6 cores free" in found[0]["reason"]


def test_others_see_nothing_of_our_queue_and_a_superuser_all(entry, stranger):
    from django.contrib.auth.models import User

    from pause_manager import manager
    from pause_manager.capacity.needs import Needs
    from pause_manager.pause_queue.writer import WithheldDispatch

    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")

    assert client_of(stranger).get(f"{API}pause-queue/").data["results"] == []
    root = client_of(User.objects.create_superuser("root"))
    assert [found["ref"] for found in root.get(f"{API}pause-queue/").data["results"]] == [entry.ref, "import:1"]
    (foreign,) = (found for found in root.get(f"{API}pause-queue/").data["results"] if found["ref"] == "import:1")
    refused = root.post(f"{API}pause-queue/{foreign['id']}/force-pause/")
    assert (refused.status_code, "only runs are held" in refused.data["message"]) == (400, True)


@pytest.mark.req("P-26")
def test_forcing_an_entry(api, entry):
    from pause_manager.models import Hold

    path = f"{API}pause-queue/{entry.pk}/"

    assert api.post(f"{path}force-pause/", {"reason": "not now"}).data["ref"] == entry.ref
    hold = Hold.objects.active().get(scope=entry.ref, kind="operator")
    assert (hold.reason, hold.actor) == ("not now", "user:alice")
    assert api.post(f"{path}force-resume/", {"reason": "go"}).status_code == 200
    assert not is_waiting(entry)
    assert api.post(f"{path}force-resume/").status_code == 404
    assert api.post(f"{API}pause-queue/x/force-resume/").status_code == 404


def test_the_queue_tells_what_waits_for_room_from_what_waits_for_a_hold(entry):
    from django.contrib.auth.models import User

    from pause_manager.models import PauseQueueEntry

    held = PauseQueueEntry.objects.create(
        ref="task:1", task_name="shop.restock", queue="shop", reason="operator hold on queue:shop", waits_for="hold"
    )
    root = client_of(User.objects.create_superuser("root"))

    def listed(query=""):
        return [(row["ref"], row["waits_for"]) for row in root.get(f"{API}pause-queue/{query}").data["results"]]

    assert listed() == [(entry.ref, "capacity"), (held.ref, "hold")]
    assert listed("?waits_for=capacity") == [(entry.ref, "capacity")]
    assert listed("?waits_for=hold") == [(held.ref, "hold")]
    page = root.get(f"{API}pause-queue/?waits_for=hold&limit=1").data
    assert (len(page["results"]), page["next"]) == (1, None)
    assert root.get(f"{API}pause-queue/?waits_for=nothing").status_code == 400
