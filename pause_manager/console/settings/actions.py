"""What an operator of the fleet does on the page of settings."""

from __future__ import annotations

from datetime import timedelta

from pause_manager import overrides
from pause_manager.console.pages import Refused, Request
from pause_manager.nodes import operator_threshold, watching
from pause_manager.overrides import writer

UNITS = {"minutes": 60, "hours": 3_600, "days": 86_400}


def watch(request: Request) -> str:
    """Switch the watch of capacity on or off."""
    is_on = request.values.get("on") == "1"
    word = "watched" if is_on else "not watched"
    if not watching.set_watched(is_on, actor=request.actor, reason=request.required("reason", "a reason")):
        raise Refused(f"Cannot change that: capacity is {word} already.")
    return f"Capacity is {word} from now on."


def threshold(request: Request) -> str:
    """Give a node its own threshold, or take it away."""
    node = request.required("node", "the node")
    share = operator_threshold.parsed(as_share(request.required("value", "the threshold")))
    operator_threshold.set_own(node, share, actor=request.actor, reason=request.reason)
    return f"The threshold of {node} is {operator_threshold.told(share)}."


def override(request: Request) -> str:
    """Override a value for a while."""
    kind, value = request.required("kind", "the value to override"), request.required("value", "the value")
    made = overrides.start(
        kind,
        request.required("target", "what it is for"),
        as_share(value) if kind.endswith("threshold") else value,
        expires_in=_length(request),
        actor=request.actor,
        reason=request.reason,
    )
    return f"Override {writer.sentence(made)}."


def end(request: Request) -> str:
    """End an override before its time."""
    number = request.required("override", "the override")
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise Refused(f"Cannot end override {number[:40]}: expected its number.")
    ended = overrides.end(int(number), actor=request.actor, reason=request.reason)
    return f"Override {ended.pk} has ended: {ended.outcome}."


def as_share(text: str) -> str:
    """``30`` means 30%: that is what the form asks for."""
    given = text.strip()
    return f"{given}%" if given.replace(".", "", 1).isdecimal() and float(given) > 1 else given


def _length(request: Request) -> timedelta:
    text, unit = request.required("for", "for how long"), request.values.get("unit", "hours")
    if unit not in UNITS:
        raise Refused(f"Cannot override it: expected as unit one of {', '.join(UNITS)}, got: {unit[:40]}.")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 7):
        raise Refused(f"Cannot override it: expected a whole number of {unit}, got: {text[:40]}.")
    return timedelta(seconds=int(text) * UNITS[unit])
