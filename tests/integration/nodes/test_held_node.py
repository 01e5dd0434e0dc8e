"""A node that is held takes no more messages, while it goes on serving the control queue."""

from __future__ import annotations

import time

import pytest
from celery import current_app

from automation import dispatch
from pause_manager import holds, nodes
from pause_manager.messaging import broker
from pause_manager.models import Hold, WorkerNode
from tests.support.factories import OPERATOR
from tests.support.sampled_fleet import HERE
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load"), pytest.mark.slow]
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.support.settings.watching"}


def is_consuming(wanted: bool) -> bool:
    return WorkerNode.objects.filter(name=HERE, is_consuming=wanted).exists()


def send() -> None:
    """A message without a ticket: whoever takes it has nothing to do."""
    current_app.send_task(dispatch.TASK, args=(0, 0), queue="stages")


@pytest.mark.req("M-27")
@pytest.mark.parametrize("mode", [Hold.Mode.QUIESCE, Hold.Mode.DRAIN])
def test_a_held_node_leaves_messages_to_others_until_it_is_released(workers: Workers, mode: str) -> None:
    workers.start("stages", env=SETTINGS)
    assert eventually(lambda: nodes.live_node(HERE))
    send()
    assert eventually(lambda: broker.queue_depth("stages") == 0)

    holds.place([f"node:{HERE}"], mode=mode, actor=OPERATOR, reason="new memory")
    assert eventually(lambda: is_consuming(False))
    assert eventually(lambda: "Canceling queue stages" in workers.said("stages") or not _takes())
    # A request to the broker that was under way may still fetch a message, and puts it back.
    time.sleep(1.5)
    assert not _takes()

    holds.release([f"node:{HERE}"], actor=OPERATOR)
    assert eventually(lambda: is_consuming(True))
    assert eventually(lambda: broker.queue_depth("stages") == 0)


def _takes() -> bool:
    """Whether a message is taken from the queue within two seconds."""
    send()
    return bool(eventually(lambda: broker.queue_depth("stages") == 0, 2))
