"""The durable pause queue: park, send on exactly once, drop. Writes :class:`PauseQueueEntry`."""

from pause_manager.pause_queue.writer import (
    BODIES_AT_ONCE,
    WAITING,
    close_as_sent,
    deliver,
    exclude_polls,
    let_expire,
    lock,
    lock_poll,
    park,
    reopen,
    send_on,
    set_aside,
)

__all__ = [
    "BODIES_AT_ONCE",
    "WAITING",
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
