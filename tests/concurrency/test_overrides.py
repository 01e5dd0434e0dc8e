"""Overrides that several set and end at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError
from django.db.models.functions import Now

from pause_manager import nodes, overrides
from pause_manager.models import ControlEvent, Override
from pause_manager.overrides import writer
from tests.support.factories import OPERATOR
from tests.support.node_factories import make_node
from tests.support.race import Racer

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def set_at_once(count: int) -> None:
    barrier = threading.Barrier(count)

    def start(share: int) -> Override:
        return overrides.start("node_threshold", "n1", f"{share}%", expires_in=HOUR, actor=OPERATOR)

    racers = [Racer(partial(start, share), barrier) for share in range(50, 50 + count)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()


def own_threshold() -> float | None:
    return nodes.live_nodes()[0].pause_below


def test_several_that_set_one_value_at_once_leave_one_and_lose_nothing_of_what_was_there():
    make_node()
    nodes.set_threshold("n1", 0.3, actor=OPERATOR)

    set_at_once(4)

    [override] = Override.objects.active()
    assert own_threshold() == override.value
    overrides.end(override.pk, actor=OPERATOR)
    assert own_threshold() == 0.3
    assert ControlEvent.objects.filter(action="override_set").count() == 4
    assert ControlEvent.objects.filter(action="override_ended").count() == 4


def test_without_the_lock_they_would_refuse_each_other(monkeypatch):
    make_node()
    monkeypatch.setattr(writer, "_LOCK", "SELECT %s, %s")

    with pytest.raises(IntegrityError):
        set_at_once(8)


def test_two_clocks_end_one_once():
    make_node()
    nodes.set_threshold("n1", 0.3, actor=OPERATOR)
    override = overrides.start("node_threshold", "n1", "0.5", expires_in=HOUR, actor=OPERATOR)
    Override.objects.filter(pk=override.pk).update(created_at=Now() - 2 * HOUR, expires_at=Now() - HOUR)
    barrier = threading.Barrier(4)
    racers = [Racer(overrides.expire, barrier) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert sum(racer.result for racer in racers) == 1
    assert ControlEvent.objects.filter(action="override_ended").count() == 1
    assert own_threshold() == 0.3
