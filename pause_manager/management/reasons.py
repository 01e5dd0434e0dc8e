"""Explanations as commands print them."""

from __future__ import annotations

from collections.abc import Iterator

from pause_manager import times
from pause_manager.reasons import Explanation, Reason


def lines_of(explained: Explanation) -> Iterator[str]:
    """A line for each reason, and one for the place in line."""
    if not explained.reasons:
        yield "Nothing keeps it."
    for reason in explained.reasons:
        since = f" Since {times.written(reason.since)}." if reason.since else ""
        yield f"- {reason.sentence}{since} {end_of(reason)}"
    if explained.position is not None:
        first = "It is next" if explained.position == 1 else f"It is number {explained.position:,}"
        expected = (
            f"; expected to start at {times.written(explained.expected_start)}" if explained.expected_start else ""
        )
        yield f"{first} in line{expected}."


def end_of(reason: Reason) -> str:
    """What would lift ``reason``, as a sentence."""
    nothing, colon, hint = reason.lifted_by.partition("nothing: ")
    return f"Nothing ends that: {hint}." if colon and not nothing else f"It resumes when {reason.lifted_by}."
