"""Containers of one machine are one node: in real namespaces, which share the boot id as those of one host do."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psutil
import pytest
from celery import current_app
from django.db import connection
from django.db.models.functions import Now

from automation import dispatch
from automation.models import Lifecycle, WorkSlice
from automation.runs import reconciler
from backend.embedded import Layout, Redis
from pause_manager import holds, nodes
from pause_manager.messaging import broker
from pause_manager.models import ControlEvent, FleetWorker, Machine, WorkerNode
from pause_manager.nodes.machines import identity
from pause_manager.probes import processes
from tests.integration.nodes.test_sampling import send, the_node
from tests.support import containers
from tests.support.factories import OPERATOR, make_run
from tests.support.nvml.driver import Card, Driver
from tests.support.nvml.fixtures import nvml_library  # noqa: F401
from tests.support.proxy import Proxy
from tests.support.workers import Workers, eventually

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("load"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(containers.why_not()), reason=f"no namespaces here: {containers.why_not()}"),
]
WATCHING = {"DJANGO_SETTINGS_MODULE": "tests.support.settings.watching"}


def labels() -> list[str]:
    """The containers of the only node, while it is online."""
    state = the_node()
    return [] if state is None else [one.label for one in state.view.containers]


def start(
    workers: Workers,
    host: str,
    *options: str,
    node: str = "",
    boot_id: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    env = {**WATCHING, "SLACKWATER_NODE": node, **(env or {})}
    workers.start(
        host, "-Q", "stages", *(options or ("-c", "1")), env=env, within=containers.within(host, boot_id=boot_id)
    )


def test_two_containers_are_counted_once(workers: Workers):
    start(workers, "box-a")
    assert eventually(lambda: labels() == ["box-a"])
    start(workers, "box-b")

    assert eventually(lambda: labels() == ["box-a", "box-b"])
    state = the_node()
    assert state is not None
    assert (state.view.name, WorkerNode.objects.count()) == ("box-a", 1), "whoever is first names it"
    assert state.view.cores <= (psutil.cpu_count() or 1)
    assert state.view.memory_mib <= psutil.virtual_memory().total >> 20
    assert state.sample.own_processes >= 4, "two main processes and two children"
    assert set(FleetWorker.objects.values_list("node", flat=True)) == {"box-a"}

    workers.stop("box-a")
    assert eventually(lambda: labels() == ["box-b"]), "the one that is gone leaves by itself"
    assert [one.view.name for one in nodes.states()] == ["box-a"]


def test_what_one_container_burns_is_no_stranger_to_the_other(workers: Workers):
    start(workers, "box-a")
    start(workers, "box-b", "-c", "1", "--include", "tests.support.busy_tasks")
    assert eventually(lambda: labels() == ["box-a", "box-b"])
    workers.stop("box-a")
    send("tests.burn", 25)
    assert eventually(lambda: broker.queue_depth("stages") == 0)
    start(workers, "box-c")
    assert eventually(lambda: labels() == ["box-b", "box-c"])

    seen = {}
    until = time.monotonic() + 8
    while time.monotonic() < until:
        if (state := the_node()) is not None:
            seen[state.sample.view.sampled_at] = state.sample
        time.sleep(0.2)

    burnt = [one.own_cores for sample in seen.values() for one in sample.view.containers if one.label == "box-b"]
    assert max(burnt) > 0.3
    plain = [sample for sample in seen.values() if not sample.foreign_corrected_by]
    for sample in plain:
        strangers = max(0.0, sample.busy_cores - sample.own_cores)
        assert sample.view.foreign_cores == pytest.approx(strangers, abs=0.05)
        assert sample.own_cores == pytest.approx(sum(one.own_cores for one in sample.view.containers), abs=0.01)


def test_the_memory_of_a_machine_is_given_once(workers: Workers, monkeypatch: pytest.MonkeyPatch):
    heavy = str(int((psutil.virtual_memory().available >> 20) * 0.55))
    monkeypatch.setenv("HEAVY_MIB", heavy)
    workers.env["HEAVY_MIB"] = heavy
    importlib.import_module("tests.support.heavy_pipeline")
    include = ("-c", "1", "--include", "tests.support.heavy_pipeline")
    start(workers, "box-a", *include)
    start(workers, "box-b", *include)
    assert eventually(lambda: labels() == ["box-a", "box-b"])

    run = make_run("heavy", items=4)
    most = 0
    until = time.monotonic() + 90
    while time.monotonic() < until and run.lifecycle != Lifecycle.COMPLETED:
        most = max(most, WorkSlice.objects.leased().count())
        time.sleep(0.1)
        reconciler.reconcile()
        run.refresh_from_db()

    assert run.lifecycle == Lifecycle.COMPLETED
    assert most == 1, "half of it and more was given twice"


SHARED, OWN = "GPU-5ha2ed", "GPU-0f-b"


def start_with_cards(workers: Workers, host: str, library: Path, *uuids: str) -> None:
    """A container that sees these cards, of all that its machine has."""
    importlib.import_module("tests.support.gpu_pipeline")
    driver = Driver(library, workers.root / f"cards-of-{host}", [Card(uuid=uuid) for uuid in uuids])
    driver.write()
    start(workers, host, "-c", "2", "--include", "tests.support.gpu_pipeline", env=driver.env)


def given_cards(items: int) -> list[list[tuple[str, str]]]:
    """Run so many pieces that need a whole card; at each look the containers at work and the cards they were given."""
    run = make_run("carding", items=items)
    seen = []
    until = time.monotonic() + 90
    while time.monotonic() < until and run.lifecycle != Lifecycle.COMPLETED:
        leased = WorkSlice.objects.leased().values_list("lease_owner", "lease_gpus")
        seen.append([(processes.container_of(owner).partition("~")[0], gpu) for owner, gpus in leased for gpu in gpus])
        time.sleep(0.1)
        reconciler.reconcile()
        run.refresh_from_db()
    assert run.lifecycle == Lifecycle.COMPLETED
    return seen


def test_a_card_that_two_containers_see_is_shown_and_given_once(workers: Workers, nvml_library: Path):  # noqa: F811
    start_with_cards(workers, "box-a", nvml_library, SHARED)
    start_with_cards(workers, "box-b", nvml_library, SHARED)
    assert eventually(lambda: labels() == ["box-a", "box-b"])
    state = the_node()
    assert state is not None
    assert [(card.uuid, card.problem) for card in state.view.gpus] == [(SHARED, "")]
    assert [one.gpus for one in state.view.containers] == [(SHARED,), (SHARED,)], "both see it"

    seen = given_cards(4)

    assert max(map(len, seen)) == 1, "four children wait for it, and one at a time has it"
    assert {gpu for given in seen for _, gpu in given} == {SHARED}


def test_a_card_that_one_container_sees_is_given_only_there(workers: Workers, nvml_library: Path):  # noqa: F811
    start_with_cards(workers, "box-a", nvml_library, SHARED)
    start_with_cards(workers, "box-b", nvml_library, SHARED, OWN)
    assert eventually(lambda: labels() == ["box-a", "box-b"])
    state = the_node()
    assert state is not None
    assert {card.uuid for card in state.view.gpus} == {SHARED, OWN}

    seen = given_cards(6)

    assert all(most == 1 for given in seen for most in Counter(gpu for _, gpu in given).values()), "no card twice"
    given = {one for look in seen for one in look}
    assert ("box-b", OWN) in given
    assert ("box-a", OWN) not in given
    assert max(map(len, seen)) == 2, "and both cards are used at once"


@pytest.mark.req("M-27")
def test_a_hold_on_the_node_survives_the_renaming_of_its_containers(workers: Workers):
    start(workers, "box-a")
    start(workers, "box-b")
    assert eventually(lambda: labels() == ["box-a", "box-b"])
    holds.place(["node:box-a"], actor=OPERATOR, reason="new memory")

    workers.stop("box-a")
    workers.stop("box-b")
    start(workers, "box-c")
    assert eventually(lambda: labels() == ["box-c"])
    current_app.send_task(dispatch.TASK, args=(0, 0), queue="stages")

    time.sleep(3)
    assert broker.queue_depth("stages") == 1, "its machine is held, whatever its container is called"
    assert list(FleetWorker.objects.values_list("node", flat=True)) == ["box-a"]
    assert [state.view.name for state in nodes.states()] == ["box-a"], "no other name is listed"
    holds.release(["node:box-a"], actor=OPERATOR)
    assert eventually(lambda: broker.queue_depth("stages") == 0)


def test_another_container_speaks_when_the_first_is_killed(workers: Workers):
    start(workers, "box-a")
    assert eventually(lambda: labels() == ["box-a"])
    start(workers, "box-b")
    assert eventually(lambda: labels() == ["box-a", "box-b"])

    workers.kill("box-a")
    killed = time.monotonic()
    while time.monotonic() < killed + 8:
        assert the_node() is not None, "never offline"
        time.sleep(0.1)
    assert labels() == ["box-b"]


def test_a_machine_whose_containers_all_want_another_name_is_given_it_with_its_holds(workers: Workers):
    start(workers, "box-a")
    assert eventually(lambda: labels() == ["box-a"])
    holds.place(["node:box-a"], actor=OPERATOR, reason="new memory")
    start(workers, "box-b", node="big")
    assert "continues as box-a, not as big" in workers.said("box-b"), "somebody works under the old name"

    workers.stop("box-a")

    assert eventually(lambda: Machine.objects.get().name == "big", 30)
    assert nodes.held() == {"big": "new memory"}
    assert eventually(lambda: [state.view.name for state in nodes.states()] == ["big"])
    assert eventually(lambda: list(FleetWorker.objects.values_list("node", flat=True)) == ["big"])


def test_a_container_that_wants_another_name_speaks_under_the_one_that_its_machine_has(workers: Workers):
    Machine.objects.create(boot_id=processes.boot_id(), name="box-a")
    FleetWorker.objects.create(name="w@box-a", node="box-a", owner="box-a", last_seen_at=Now() + timedelta(hours=1))

    start(workers, "box-b", node="big")

    assert eventually(lambda: labels() == ["box-b"]), "nobody else is there to sample the machine"
    assert [state.view.name for state in nodes.states()] == ["box-a"]
    assert "continues as box-a, not as big" in workers.said("box-b")


def test_two_machines_under_one_name_are_refused(workers: Workers, tmp_path: Path):
    other = tmp_path / "boot_id"
    other.write_text(f"{uuid4()}\n")
    start(workers, "first", node="big")
    assert eventually(lambda: labels() == ["first"])

    start(workers, "second", node="big", boot_id=other)
    workers.stop("first")
    current_app.send_task(dispatch.TASK, args=(0, 0), queue="stages")

    assert eventually(lambda: "Another machine is the node big" in workers.said("second"))
    assert "Set SLACKWATER_NODE" in workers.said("second")
    [sentence] = identity.contested()
    assert sentence.startswith("two machines call themselves big: second (boot ")
    time.sleep(2)
    assert broker.queue_depth("stages") == 1, "it takes nothing under the name of another"
    # The first is gone for good: after a while its name is free, as it is after a reboot.
    assert eventually(lambda: broker.queue_depth("stages") == 0, 40)
    assert eventually(lambda: labels() == ["second"])
    assert Machine.objects.get().boot_id == other.read_text().strip()


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of this test alone, that it may stop."""
    layout = Layout(Path(tmp_path_factory.mktemp("r")))
    layout.create()
    server = Redis(layout)
    server.start()
    yield server
    server.stop()


def test_containers_meet_in_the_database_while_redis_is_away(workers: Workers, own_redis: Redis):
    workers.env["REDIS_URL"] = own_redis.layout.redis_url
    start(workers, "box-a")
    start(workers, "box-b")
    assert eventually(lambda: stored_labels() == ["box-a", "box-b"])

    own_redis.stop()
    stopped = time.time()
    assert eventually(lambda: stored_at() > stopped + 8, 30)

    assert stored_labels() == ["box-a", "box-b"]
    machine = Machine.objects.get()
    assert sorted(container.partition("~")[0] for container in machine.reports) == ["box-a", "box-b"]
    assert machine.speaker.startswith("box-")
    assert not ControlEvent.objects.filter(action="yield_wanted").exists()


def stored_at() -> float:
    return float(WorkerNode.objects.get().sample["view"]["sampled_at"])


def stored_labels() -> list[str]:
    rows = WorkerNode.objects.values_list("sample", flat=True)
    return [one["label"] for sample in rows for one in sample["view"]["containers"]]


def test_a_worker_that_starts_without_a_database_has_its_machine_s_name_once_it_is_back(
    workers: Workers, process_env: dict[str, str]
):
    start(workers, "box-a")
    assert eventually(lambda: labels() == ["box-a"])
    at = connection.settings_dict
    with Proxy(f"{at['HOST']}/.s.PGSQL.{at['PORT'] or 5432}", name=".s.PGSQL.5432") as proxy:
        proxy.refuse()
        user, name = quote(at["USER"]), quote(str(at["NAME"]))
        away = f"postgresql://{user}@{quote(str(proxy.directory), safe='')}/{name}"
        env = {**WATCHING, "DATABASE_URL": away}
        workers.start("box-b", "-Q", "stages", "-c", "1", env=env, within=containers.within("box-b"))
        time.sleep(3)
        assert not FleetWorker.objects.filter(name="box-b@box-b").exists()

        proxy.admit()

        assert eventually(lambda: FleetWorker.objects.filter(name="box-b@box-b", node="box-a").exists(), 30)
        assert eventually(lambda: labels() == ["box-a", "box-b"])
        assert list(WorkerNode.objects.values_list("name", flat=True)) == ["box-a"]
        workers.stop("box-b")
