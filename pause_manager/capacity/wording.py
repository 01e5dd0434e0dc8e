"""Shares for people: percents, amounts in the units in which needs are told, why a node has its own threshold."""

from __future__ import annotations

from pause_manager.capacity.headroom import Share
from pause_manager.capacity.snapshot import NodeView


def percent(left: Share) -> str:
    """A share for people: ``7.5%``; nothing is left of what is overdrawn."""
    return f"{max(float(left), 0.0):.1%}".replace(".0%", "%")


def amount(left: Share) -> str:
    """Return how much is free of how much, in the units in which needs are told: ``0.8 of 2 cores``."""
    return f"{_number(left.free, left)} of {_number(left.total, left)} {_unit(left)}"


def least(left: Share, threshold: float) -> str:
    """The amount of the resource that is ``threshold`` (0 to 1) of it: ``0.4 cores``."""
    return f"{_number(round(left.total * threshold), left)} {_unit(left)}"


def _number(found: int, left: Share) -> str:
    found = max(found, 0)
    return f"{round(found / 1000, 2):g}" if left.resource == "cpu" else f"{found:,}"


def _unit(left: Share) -> str:
    return {"cpu": "cores", "memory": "MiB of memory", "gpu_memory": "MiB of GPU memory"}[left.resource]


def label(left: Share) -> str:
    """The resource of a share for people."""
    return {"cpu": "cores", "memory": "memory", "gpu_memory": "GPU memory"}[left.resource]


def why_own(node: NodeView) -> str:
    """In brackets, why a node has a threshold of its own; empty if it has none."""
    if node.pause_below is None and not node.threshold_moved_by:
        return ""
    return f" ({node.pause_below_reason or 'its own threshold'})"
