"""Resources outside that work uses: limits, and what follows when one says "too much"."""

from pause_manager.resources.writer import (
    advance,
    answered,
    ask_again,
    lock,
    set_limits,
    take_starts,
    throttle,
)

__all__ = [
    "advance",
    "answered",
    "ask_again",
    "lock",
    "set_limits",
    "take_starts",
    "throttle",
]
