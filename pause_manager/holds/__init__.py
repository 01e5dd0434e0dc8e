"""What stops work. Place, alter, release and expire holds: one event each, and what goes with it."""

from pause_manager.holds.effects import lock
from pause_manager.holds.writer import TAKE_SHARE, alter, exclude_starts, expire, forget, move, place, release

__all__ = ["TAKE_SHARE", "alter", "exclude_starts", "expire", "forget", "lock", "move", "place", "release"]
