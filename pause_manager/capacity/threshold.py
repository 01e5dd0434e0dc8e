"""The adaptive mode: a node's own threshold, moved by what was observed there, within set bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView

STEP = 0.05
"""How far the threshold moves at once."""


@dataclass(frozen=True)
class Adaptation:
    """A node's working threshold, since when, and the sentence that explains it."""

    pause_below: float
    changed_at: float
    sentence: str = ""


def adapt(
    current: Adaptation | None,
    policy: Policy,
    now: float,
    *,
    contended_at: Iterable[float] = (),
    out_of_memory_at: Iterable[float] = (),
) -> Adaptation | None:
    """The threshold to use from now on; ``current`` itself if nothing changes, None if the mode is off.

    One loop that ran out of memory, or two contentions within ``adaptive_window_seconds``, raise it by a step; only
    what happened since the last change counts. ``adaptive_calm_seconds`` without either lower it by a step.
    """
    if not policy.adaptive:
        return None
    if current is None:
        return Adaptation(_within(policy.pause_below, policy), now, "starts at the fleet's threshold")
    since = max(current.changed_at, now - policy.adaptive_window_seconds)
    crashes = sum(since < at <= now for at in out_of_memory_at)
    contentions = sum(since < at <= now for at in contended_at)
    if crashes or contentions >= 2:
        why = f"{crashes} out of memory" if crashes else f"{contentions} contentions"
        within = f"within {now - since:.0f} s"
        return _moved(current, STEP, policy, now, f"raised after {why} {within}")
    if now - current.changed_at >= policy.adaptive_calm_seconds and not contentions:
        return _moved(current, -STEP, policy, now, f"lowered after {now - current.changed_at:.0f} s calm")
    return current


def with_threshold(view: NodeView, own: float | None, adaptation: Adaptation | None, policy: Policy) -> NodeView:
    """``view`` with the threshold it is judged by: an operator's ``own`` wins, then what the adaptive mode has found.

    Found for the fleet's threshold, it moves that of every pipeline by as much.
    """
    if own is not None or not policy.adaptive or adaptation is None:
        return replace(view, pause_below=own)
    by = round(adaptation.pause_below - policy.pause_below, 9)
    return replace(view, threshold_moved_by=by, pause_below_reason=adaptation.sentence if by else "")


def _moved(current: Adaptation, by: float, policy: Policy, now: float, why: str) -> Adaptation:
    target = _within(current.pause_below + by, policy)
    if target == current.pause_below:
        return Adaptation(target, now, f"{why}: stays at its bound of {target:.0%}")
    return Adaptation(target, now, f"{why}: from {current.pause_below:.0%} to {target:.0%}")


def _within(threshold: float, policy: Policy) -> float:
    return round(min(max(threshold, policy.adaptive_min), policy.adaptive_max), 9)
