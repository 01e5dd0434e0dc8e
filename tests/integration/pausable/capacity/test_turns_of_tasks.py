"""Tasks with needs queue behind what waits, and go by the policy that they name."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.checks import check_policies_of_tasks
from pause_manager.models import PauseQueueEntry, RunningTask
from pause_manager.pausable import PausableTask, confirmations, parked_messages
from pause_manager.pause_queue.admission import QUEUED_BEHIND
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.integration.pausable.messages.test_settling import needy, returned, task  # noqa: F401  (fixtures)
from tests.support.deliveries import QUEUE, delivery
from tests.support.foreign_project import hold, release
from tests.support.sampled_fleet import full, messages, node
from tests.support.sampling_workers import watching  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def between() -> None:
    """A quarter is free: enough to start, not to go on with what was parked."""
    node(cores=10, foreign=7.5)


def wait(needs: Needs | None = None) -> None:
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", needs or Needs())], reason="full")


def starts(task: PausableTask, priority: int | None = None) -> bool:  # noqa: F811
    info = {"exchange": "", "routing_key": QUEUE, "priority": priority}
    return parked_messages.admit(delivery(task, delivery_info=info)) is not None


def why(task: PausableTask) -> str:  # noqa: F811
    return PauseQueueEntry.objects.waiting().get(task_name=task.name).reason


@pytest.mark.req("P-22", "P-39")
def test_a_new_task_does_not_pass_what_waits_and_is_no_larger(needy: PausableTask):  # noqa: F811
    between()
    assert starts(needy), "alone it may start"
    RunningTask.objects.all().delete()
    wait()

    assert not starts(needy)

    assert why(needy) == QUEUED_BEHIND
    node(cores=10)
    assert manager.poll().sent == 1
    assert [message.task for message in messages()] == ["others.work"], "the older one goes first"
    assert confirmations.confirm_once(
        (PauseQueueEntry.objects.get(ref="import:1").pk, 1), "its tag", uuid4(), is_redelivered=False
    )
    assert manager.poll().sent == 1
    between()
    manager.pause_work([WithheldDispatch("import:2", "others.work", "control", Needs())], reason="full")
    assert parked_messages.admit(returned(needy)) is not None, "it has had its turn"


def test_what_is_larger_or_less_urgent_is_not_in_the_way_of_a_task(needy: PausableTask):  # noqa: F811
    between()
    wait(Needs(cpu=2))
    assert starts(needy)

    type(needy).needs = Needs(cpu=2)

    assert not starts(needy)
    node(cores=20, foreign=14)
    assert starts(needy, priority=0)


def declares(settings: Any, **policies: dict[str, float]) -> None:
    settings.PAUSE_MANAGER = {
        **settings.PAUSE_MANAGER,
        "pipeline_policies": {name: {"thresholds": given} for name, given in policies.items()},
    }


def test_a_task_starts_waits_and_goes_on_by_the_policy_that_it_names(needy: PausableTask, settings: Any):  # noqa: F811
    declares(settings, nightly={"pause_below": 0.5, "resume_above": 0.7})
    type(needy).policy = "nightly"
    node(cores=10, foreign=6)

    assert not starts(needy)

    entry = PauseQueueEntry.objects.get()
    assert (entry.pipeline, "only with 5 cores free" in entry.reason) == ("nightly", True)
    node(cores=10, foreign=4)
    assert manager.poll().sent == 0, "60 % are free, and it goes on at 70 %"
    type(needy).policy = ""
    assert starts(needy), "what keeps more free is not in the way of others"
    type(needy).policy = "nightly"
    node(cores=10, foreign=1)
    assert manager.poll().sent == 1
    assert parked_messages.admit(returned(needy)) is not None


def test_a_task_that_names_no_known_policy_goes_by_the_fleets_and_the_check_says_so(
    needy: PausableTask,  # noqa: F811
    settings: Any,
):
    type(needy).policy = "nightly"
    node(cores=10, foreign=6)
    assert starts(needy)
    full()
    assert not starts(needy)
    assert PauseQueueEntry.objects.get().pipeline == "nightly"

    (warning,) = check_policies_of_tasks(None)

    assert (warning.id, "'nightly'" in warning.msg) == ("pause_manager.W019", True)
    declares(settings, nightly={"pause_below": 0.05})
    assert check_policies_of_tasks(None) == []
    RunningTask.objects.all().delete()
    node(cores=10, foreign=8.5)
    assert starts(needy, priority=0), "15 % are enough for it now"


def test_where_no_room_is_watched_a_held_task_waits_for_the_hold_alone(needy: PausableTask, settings: Any):  # noqa: F811
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": False}
    full()
    hold()
    assert not starts(needy)

    release()

    assert parked_messages.admit(returned(needy)) is not None
