"""Which container of a machine speaks for it: one that knows what the machine is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pause_manager.models import Machine
from pause_manager.nodes.machines import containers
from pause_manager.probes import processes
from pause_manager.probes.container_report import Report

pytestmark = pytest.mark.django_db(transaction=True)

Meet = Callable[[str, str], bool]


def report(name: str) -> Report:
    return Report(container=f"{name}~1/boot/pid:[1]", label=name, cpus=1)


@pytest.fixture(params=[containers.meet, containers.meet_in_the_database])
def meet(request: pytest.FixtureRequest) -> Iterator[Meet]:
    """A container of this machine reports, and knows the machine by a name or by none: does it speak?"""
    Machine.objects.create(boot_id=processes.boot_id(), name="big")
    yield lambda container, node: request.param(report(container), node).speaks
    for name in "ab":
        containers.leave(report(name).container)


def test_one_without_a_name_takes_no_lease(meet: Meet):
    assert not meet("a", "")
    assert meet("b", "big"), "nobody else speaks"
    assert not meet("a", "big")


def test_one_that_no_longer_knows_the_name_leaves_the_lease_to_others_at_once(meet: Meet):
    assert meet("a", "big")
    assert not meet("b", "big")

    assert not meet("a", "")
    assert meet("b", "big")


def test_one_without_a_name_is_counted_all_the_same(meet: Meet, request: pytest.FixtureRequest):
    meet("a", "")
    how = request.node.callspec.params["meet"]

    assert {one.label for one in how(report("b"), "big").reports.values()} == {"a", "b"}
