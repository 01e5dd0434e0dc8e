"""An operator's own threshold of a node, as people write it."""

from __future__ import annotations

from pause_manager.actor import Actor
from pause_manager.errors import PauseManagerError
from pause_manager.nodes import registry


class InvalidThreshold(PauseManagerError):
    """The text is no threshold."""

    code = "threshold_invalid"


class NodeUnknown(PauseManagerError):
    """No such node is known."""

    code = "not_found"


NONE = "none"


def parsed(text: str) -> float | None:
    """``35%`` or ``0.35`` as a share; ``none`` takes the node's own threshold away. Raises ``InvalidThreshold``."""
    given = text.strip().lower()
    if given == NONE:
        return None
    try:
        share = float(given.removesuffix("%")) / 100 if given.endswith("%") else float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidThreshold(f"Cannot use the threshold {text[:40]!r}: expected 0% to 100%, 0 to 1, or none.")
    return round(share, 6)


def set_own(node: str, pause_below: float | None, *, actor: Actor, reason: str = "") -> None:
    """Give ``node`` its own threshold or take it away. Raises ``NodeUnknown``."""
    if not registry.set_threshold(node, pause_below, actor=actor, reason=reason):
        raise NodeUnknown(f"Cannot set the threshold of node {node}: none of that name is known.")


def told(pause_below: float | None) -> str:
    """For people."""
    return "that of the settings" if pause_below is None else f"{round(pause_below * 100, 2):g}%"
