"""The durable pause queue: park, send on exactly once, drop."""

from pause_manager.pause_queue.delivery import BODIES_AT_ONCE, deliver, let_expire, send_on
from pause_manager.pause_queue.returning import reopen, set_aside
from pause_manager.pause_queue.writer import close_as_sent, park

__all__ = [
    "BODIES_AT_ONCE",
    "close_as_sent",
    "deliver",
    "let_expire",
    "park",
    "reopen",
    "send_on",
    "set_aside",
]
