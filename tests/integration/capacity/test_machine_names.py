"""What a process knows of its machine's name, where it wants another."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from automation import leases, maintenance
from automation.leases import Worker
from automation.models import WorkSlice
from pause_manager import holds, machines, nodes
from pause_manager.models import FleetWorker, Machine
from pause_manager.probes import processes
from tests.concurrency.racing import race
from tests.factories import OPERATOR, make_run, stage_of
from tests.factories_nodes import make_node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def wants_another(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is ``old``, a worker of it is at work, and this process wants it to be ``new``."""
    monkeypatch.setattr(machines, "_known", "")
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "node": "new"}
    Machine.objects.create(boot_id=processes.boot_id(), name="old")
    FleetWorker.objects.create(name="w@old", node="old", owner="other", last_seen_at=Now() + timedelta(hours=1))


@pytest.mark.usefixtures("wants_another")
def test_it_knows_the_name_that_the_machine_has():
    """By that name it samples, asks for room within its container's limits, and finds the cards that it may use."""
    assert (machines.settle_name(), machines.known_name()) == ("old", "old")
    assert (machines.name(), machines.known_name()) == ("old", "old")


@pytest.mark.usefixtures("wants_another")
def test_it_goes_by_the_new_name_as_soon_as_nobody_works_under_the_old_one():
    assert machines.name() == "old"
    FleetWorker.objects.all().delete()

    assert (machines.settle_name(), machines.known_name()) == ("new", "new")


@pytest.mark.usefixtures("wants_another")
def test_a_process_of_the_pool_hears_of_the_new_name():
    """It renames nothing itself: the worker's main process does."""
    assert machines.name() == "old"
    Machine.objects.update(name="new")

    assert (machines.name(), machines.known_name()) == ("new", "new")


@pytest.mark.usefixtures("wants_another")
def test_a_machine_is_renamed_while_a_process_of_its_pool_claims():
    """A claim shares the holds before it locks its node; whoever carries a hold over excludes all claims."""
    make_node("old")
    holds.place(["node:old"], actor=OPERATOR, reason="new memory")
    FleetWorker.objects.all().delete()

    def claims() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(holds.TAKE_SHARE)
            time.sleep(1)
            nodes.lock("old")

    def renames() -> str:
        time.sleep(0.5)
        return machines.settle_name()

    assert race(claims, renames)[1] == "new"
    assert nodes.held() == {"new": "new memory"}


def test_an_item_is_given_up_also_on_a_machine_that_was_refused_its_name(
    settings: Any, monkeypatch: pytest.MonkeyPatch
):
    """Its control worker reaps like any other: nothing stops the control queue."""
    monkeypatch.setattr(machines, "_known", "")
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "node": "big"}
    Machine.objects.create(boot_id="another", name="big")
    run = make_run("scripted", items=1)
    assert leases.claim(stage_of(run).pk, Worker("gone", "n1"), queue="stages", concurrency=None) is not None
    WorkSlice.objects.update(crashes=99, is_alone=True)

    assert maintenance.settle(leases.reap(crashed=["gone"])) == 1

    assert WorkSlice.objects.get(stage_run=stage_of(run)).failed == 1
    assert list(Machine.objects.values_list("name", flat=True)) == ["big"]
