"""The same over RabbitMQ, where there is one: holds, the canvas, killed workers, lost and doubled messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, current_app

from pause_manager.messaging import broker
from pause_manager.models import PauseQueueEntry
from tests.integration.pausable.canvas.test_canvas import (  # noqa: F401  (collected here too)
    test_the_canvas_is_as_without_it_and_goes_on_after_pauses,
)
from tests.integration.pausable.canvas.test_plain_signatures import (
    PLAIN,
    deliver_again,
    is_over,
    park,
    send,
    short_grace,  # noqa: F401
)
from tests.integration.pausable.holds.test_holds import test_a_held_task_waits_and_a_quiesced_one_leaves  # noqa: F401
from tests.integration.pausable.messages.test_exactly_once import (  # noqa: F401
    test_a_task_whose_worker_is_killed_runs_again_if_it_acknowledges_late,
    test_what_is_broken_off_and_given_back_runs_again,
)
from tests.support.rabbitmq import RabbitMQ, is_installed
from tests.support.workers import eventually

if TYPE_CHECKING:
    from tests.support.foreign_project import Foreign

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="no RabbitMQ is installed (Debian: rabbitmq-server)"),
]


@pytest.fixture
def foreign(rabbitmq: RabbitMQ, process_env: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    """The foreign project, and this process as one of its operators."""
    from tests.support.foreign_project import QUEUE, Foreign

    ours: Any = current_app
    ours = ours._get_current_object()
    operator = Celery("operator", broker=rabbitmq.url)
    operator.set_current()
    project = Foreign(tmp_path, {**process_env, "FOREIGN_BROKER": rabbitmq.url})
    try:
        yield project
    finally:
        project.close()
        with _channel(operator) as channel:
            channel.queue_delete(QUEUE)
        operator.close()
        ours.set_current()


@contextmanager
def _channel(app: Any) -> Iterator[Any]:
    with app.connection_for_write() as connection:
        yield connection.default_channel


def test_a_parked_signature_runs_once(foreign: Foreign):
    from tests.support.foreign_project import QUEUE, reconciled

    foreign.worker("one", **PLAIN)
    foreign.workers.stop("one")
    lost, doubled = park("import:1", "add", 1, 1), park("import:2", "add", 2, 2)
    assert send(lost) == 1
    assert broker.queue_depth(QUEUE) == 1
    with _channel(current_app) as channel:
        channel.queue_purge(QUEUE)
    assert send(doubled) == 1
    deliver_again(doubled, doubled)

    foreign.worker("one", **PLAIN)

    def all_ran() -> bool:
        send(*PauseQueueEntry.objects.waiting())
        return is_over() and len(foreign.notes()) == 2

    assert reconciled(all_ran), foreign.workers.said("one")[-3000:]
    refused = f"A message of entry {doubled.pk}.1 was delivered again"
    assert eventually(lambda: foreign.workers.said("one").count(refused) >= 2)
    assert sorted(foreign.notes("add")) == [["add", 1, 1], ["add", 2, 2]]
