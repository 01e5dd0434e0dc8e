"""What a process knows of its machine's name, where it wants another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from pause_manager import machines
from pause_manager.models import FleetWorker, Machine
from pause_manager.probes import processes

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
