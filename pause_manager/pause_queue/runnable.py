"""What would start if a worker came, by queue: what an autoscaler goes by.

Counted are the messages that wait in the broker, without those that would start nothing, and what is parked because no
worker serves its queue. A queue that is held asks for no worker.
"""

from __future__ import annotations

from pause_manager import conf, workloads
from pause_manager.messaging import broker
from pause_manager.models import Hold
from pause_manager.nodes import serving
from pause_manager.pause_queue import parked_tasks


def by_queue() -> dict[str, int]:
    """By each queue that is served or waited for. Raises ``BrokerAway`` if the broker cannot say.

    Never ask inside a transaction: the broker is asked, for ``broker.SECONDS`` at most.
    """
    queues = {*serving.queues(), *workloads.waiting_queues()} - {"", conf.settings().control_queue}
    scopes = ["fleet", *(f"queue:{queue}" for queue in queues)]
    held = set(Hold.objects.covering(scopes).values_list("scope", flat=True))
    if "fleet" in held:
        return dict.fromkeys(sorted(queues), 0)
    open_queues = sorted(queue for queue in queues if f"queue:{queue}" not in held)
    depths = broker.queue_depths(open_queues)
    stopped, unserved = workloads.stopped_messages(), parked_tasks.without_worker()
    found = dict.fromkeys(sorted(queues), 0)
    for queue in open_queues:
        found[queue] = max(0, depths[queue] - stopped.get(queue, 0)) + unserved[queue]
    return found
