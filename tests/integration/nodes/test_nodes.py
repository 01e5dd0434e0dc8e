"""What is known of the nodes, from Redis and from the database."""

from __future__ import annotations

import io
import json
import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from automation import gate
from pause_manager import conf, holds, manager, nodes, tasks
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import ContainerView, GpuView
from pause_manager.models import CapacitySample, Machine, WorkerNode
from pause_manager.nodes.rollup import MinuteRollup
from pause_manager.probes.sample import Sample
from tests.support.factories import OPERATOR, make_run
from tests.support.node_factories import make_node, make_sample

pytestmark = pytest.mark.django_db(transaction=True)

CARDS = (GpuView(index=0, total_mib=40_960, free_mib=30_000, own_mib=500, utilisation=0.4, name="A100"),)


def test_a_sample_goes_through_json_and_back() -> None:
    sample = make_sample(gpus=CARDS, gpu_problem="x")

    assert Sample.of_json(sample.as_json()) == sample


def test_a_sample_of_a_later_version_is_read_without_what_is_new() -> None:
    figures = json.loads(make_sample(gpus=CARDS).as_json())
    figures["new"] = figures["view"]["new"] = figures["view"]["gpus"][0]["new"] = 1

    assert Sample.of_dict(figures).view.gpus == CARDS


@pytest.mark.parametrize(
    ("age_seconds", "is_live", "is_online"),
    [(0, True, True), (60, True, True), (2.0, False, True), (4.0, False, False)],
)
def test_a_node_is_online_while_redis_or_the_database_saw_it_lately(
    age_seconds: float, is_live: bool, is_online: bool
) -> None:
    make_node(age_seconds=age_seconds, is_live=is_live)

    [view] = nodes.live_nodes()

    assert view.is_online is is_online


def test_a_live_sample_wins_over_the_one_that_was_kept() -> None:
    make_node(foreign_cores=1.0)
    nodes.announce(make_sample(foreign_cores=5.0))

    assert nodes.live_nodes()[0].foreign_cores == 5.0


def test_a_live_sample_ends_by_itself() -> None:
    make_node()
    with redis.Redis.from_url(conf.settings().redis_url) as client:
        [key] = client.keys("*node:n1")

        assert 1500 < client.pttl(key) <= 3500


def test_an_unreadable_sample_hides_its_node_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    make_node("good")
    make_node("bad", is_live=False)
    WorkerNode.objects.filter(name="bad").update(sample={"view": {}})

    assert [view.name for view in nodes.live_nodes()] == ["good"]
    assert "Cannot read the sample of node bad" in caplog.text


def test_the_nodes_own_threshold_is_in_its_view() -> None:
    make_node()

    assert nodes.set_threshold("n1", 0.4, actor=OPERATOR)

    assert nodes.live_nodes()[0].pause_below == 0.4


def test_consuming_is_noted_once() -> None:
    make_node()

    assert [nodes.set_consuming("n1", False), nodes.set_consuming("n1", False)] == [True, False]
    nodes.save_sample(make_sample())

    assert WorkerNode.objects.get().is_consuming is False, "a new sample does not change it"


def test_a_thousand_nodes_cost_one_query() -> None:
    cards = tuple(GpuView(index=index, total_mib=81_920, free_mib=80_000, name="H100") for index in range(8))
    sample = make_sample(gpus=cards)
    WorkerNode.objects.bulk_create(WorkerNode(name=f"n{number:04}", sample=sample.as_dict()) for number in range(1000))
    with redis.Redis.from_url(conf.settings().redis_url) as client:
        prefix = conf.settings().node_key_prefix
        client.mset({f"{prefix}n{number:04}": sample.as_json() for number in range(1000)})

    with CaptureQueriesContext(connection) as queries:
        found = nodes.live_nodes()

    assert len(found) == 1000
    assert all(view.is_online for view in found)
    assert len(queries) == 1


def test_nodes_that_are_gone_for_an_hour_are_not_listed_and_old_history_is_forgotten() -> None:
    make_node("new")
    make_node("gone", age_seconds=2 * 3600, is_live=False)
    make_node("ancient", age_seconds=15 * 86_400, is_live=False)
    for age in (1, 13, 15):
        sample = make_sample("new")
        minute = MinuteRollup.of(sample)
        minute.add(sample)
        nodes.save_minute(minute, "new")
        CapacitySample.objects.filter(minute=minute.at).update(minute=Now() - timedelta(days=age))

    tasks.forget_history()

    assert [view.name for view in nodes.live_nodes()] == ["new"]
    assert sorted(WorkerNode.objects.values_list("name", flat=True)) == ["gone", "new"]
    assert CapacitySample.objects.count() == 2


def minute_of(*foreign: float) -> MinuteRollup:
    start = 1_800_000_000.0
    gathered = None
    for second, cores in enumerate(foreign):
        card = GpuView(index=0, total_mib=100, free_mib=90 - second, utilisation=second / 10)
        sample = make_sample(sampled_at=start + second, foreign_cores=cores, free_memory_mib=100 - second, gpus=(card,))
        gathered = gathered or MinuteRollup.of(sample)
        assert gathered.holds(sample)
        gathered.add(sample)
    assert gathered is not None
    return gathered


def test_a_minute_keeps_means_and_extremes() -> None:
    make_node()

    nodes.save_minute(minute_of(1.0, 3.0), "n1")

    row = CapacitySample.objects.get()
    assert (row.samples, row.foreign_cores, row.foreign_cores_max, row.free_memory_mib_min) == (2, 2.0, 3.0, 99)
    assert row.gpus == [
        {
            "uuid": "",
            "index": 0,
            "total_mib": 100,
            "free_mib_min": 89,
            "own_mib_max": 0,
            "utilisation": 0.05,
            "problem": "",
        }
    ]


def test_of_two_parts_of_one_minute_the_larger_stays() -> None:
    make_node()

    nodes.save_minute(minute_of(1.0, 1.0), "n1")
    nodes.save_minute(minute_of(9.0), "n1")
    nodes.save_minute(minute_of(2.0, 2.0, 2.0), "n1")

    row = CapacitySample.objects.get()
    assert (row.samples, row.foreign_cores) == (3, 2.0)


def capacity(*options: str) -> str:
    out = io.StringIO()
    call_command("capacity", *options, stdout=out)
    return out.getvalue()


def test_the_command_shows_nodes_and_gpus() -> None:
    make_node("alpha", gpus=(*CARDS, GpuView(index=1, total_mib=40_960, free_mib=None, problem="it is lost")))
    make_node("beta", age_seconds=30, is_live=False, foreign_cores=2.5)
    nodes.set_consuming("alpha", False)

    header, alpha, card, beta, off = capacity().splitlines()

    assert off.endswith('without a capacity check (PAUSE_MANAGER["capacity"] is False).')
    assert header.split()[:3] == ["node", "state", "cores"]
    assert "saturated" in alpha
    assert "29.3 of 40.0 GiB" in alpha
    assert "unknown" in card
    assert "it is lost" in card
    assert "offline 30 s" in beta
    assert " 2.5 " in beta


def test_the_command_says_so_when_there_is_no_node() -> None:
    assert capacity().startswith("No node was seen in the last hour")


def test_the_command_speaks_json() -> None:
    make_node(gpus=CARDS)

    [line] = [json.loads(text) for text in capacity("--json").splitlines()]

    assert (line["node"], line["is_online"], line["view"]["gpus"][0]["free_mib"]) == ("n1", True, 30_000)


def test_the_table_tells_the_containers_of_a_machine_apart():
    make_node(
        "alpha",
        containers=(
            ContainerView("1", "box-a", own_cores=0.5, cores=2.0, memory_mib=2_048, free_memory_mib=1_024),
            ContainerView("2", "box-b", own_cores=1.5),
        ),
    )
    make_node("beta", containers=(ContainerView("3", "beta"),))
    Machine.objects.create(boot_id="1", name="alpha", contested_at=Now(), contested_by="box-c (boot 12345678)")

    _, alpha, box_a, box_b, beta, _, told = capacity().splitlines()

    assert told.startswith("Two machines call themselves alpha: box-c (boot 12345678) takes no work")
    assert alpha.startswith("alpha")
    assert box_a.split() == ["box-a", "container", "2", "0.5", "0.0", "1.0", "of", "2.0", "GiB"]
    assert box_b.split() == ["box-b", "container", "1.5"]
    assert beta.startswith("beta"), "one container without limits is the machine"
    [line, _] = [json.loads(text) for text in capacity("--json").splitlines()]
    assert [one["label"] for one in line["view"]["containers"]] == ["box-a", "box-b"]


@pytest.mark.parametrize("model", ["workernode", "capacitysample"])
def test_the_admin_shows_nodes_and_history_and_changes_neither(model: str, client: Client) -> None:
    make_node()
    nodes.save_minute(minute_of(1.0), "n1")
    client.force_login(User.objects.create_superuser("root"))

    shown: Any = client.get(reverse(f"admin:pause_manager_{model}_changelist"))
    add: Any = client.get(reverse(f"admin:pause_manager_{model}_add"))

    assert shown.status_code == 200
    assert "n1" in shown.content.decode()
    assert add.status_code == 403


def test_a_node_that_is_sampled_every_ten_seconds_is_online_in_between_and_takes_work(settings: Any) -> None:
    """One time for all: the list of nodes, the policy and the gate agree on who is there."""
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True, "sample_seconds": 10.0}
    make_node("slow", age_seconds=20, is_live=False, sampled_at=time.time() - 20)

    [view] = nodes.live_nodes()

    assert view.is_online
    assert not manager.should_pause(Needs(cpu=1)).should_pause
    holds.place(["node:slow"], actor=OPERATOR, reason="new disks")
    run = make_run(items=1)
    assert [reason.code for reason in gate.explain(run)] == ["node"], "it lives, and is the only one"
    WorkerNode.objects.update(last_seen_at=Now() - timedelta(seconds=31))
    assert not nodes.live_nodes()[0].is_online
    assert gate.explain(run) == []
