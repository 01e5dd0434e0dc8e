"""Place, alter, release and expire holds: the only writer of :class:`Hold`. One event each."""

from pause_manager.holds.writer import TAKE_SHARE, alter, exclude_starts, expire, forget, move, place, release

__all__ = ["TAKE_SHARE", "alter", "exclude_starts", "expire", "forget", "move", "place", "release"]
