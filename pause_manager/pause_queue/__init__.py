"""The durable pause queue: park, send on exactly once, drop."""

from pause_manager.pause_queue.delivery import BODIES_AT_ONCE, deliver, let_expire, send_on
from pause_manager.pause_queue.returning import reopen, set_aside
from pause_manager.pause_queue.writer import close_as_sent, exclude_polls, lock, lock_poll, park

__all__ = [
    "BODIES_AT_ONCE",
    "close_as_sent",
    "deliver",
    "exclude_polls",
    "let_expire",
    "lock",
    "lock_poll",
    "park",
    "reopen",
    "send_on",
    "set_aside",
]
