"""The pacing of a run: batches, delays and limits that its starter gives instead of what its stages declare.

``{"batch_size": 5, "batch_delay_seconds": 30, "stages": {"ideas": {"max_items": 100}}}``: what is given for a stage
wins over what is given for all, and that over the declaration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from automation.errors import InvalidPacing
from automation.pipeline.definition import Definition
from automation.pipeline.pipeline import Pipeline

Pacing = dict[str, Any]

FIELDS = {
    "batch_size": "slice_size",
    "batch_delay_seconds": "batch_delay",
    "stage_delay_seconds": "stage_delay",
    "max_items": "max_items",
}
"""By name here, what a stage declares."""
STAGES = "stages"
NONE = "none"
"""The option that takes all pacing away."""
MOST = {"batch_size": 10_000, "max_items": 1_000_000_000}
LONGEST_SECONDS = 30 * 86_400


def clean(pipeline: type[Pipeline], given: Any) -> Pacing:
    """``given`` as it is kept, or :class:`InvalidPacing` that names what is wrong and what is allowed."""
    found = _cleaned("", given, (*FIELDS, STAGES))
    of_stages = found.pop(STAGES, {})
    if not isinstance(of_stages, Mapping):
        raise _refusal(STAGES, "an object with a member for each stage", of_stages)
    known = {stage.slug: stage for stage in pipeline.stages}
    stages = {}
    for slug, values in of_stages.items():
        if slug not in known:
            raise InvalidPacing(f"Cannot use the pacing of stage {slug!r:.80}: expected one of {', '.join(known)}.")
        cleaned = _cleaned(f"{slug}.", values, FIELDS)
        size, group = cleaned.get("batch_size"), known[slug].group_size
        if size is not None and size % group:
            raise _refusal(f"{slug}.batch_size", f"a multiple of {group}, as the stage takes groups of these", size)
        if cleaned.get("stage_delay_seconds") and not pipeline.predecessors(slug):
            raise InvalidPacing(f"Cannot use {slug}.stage_delay_seconds: no stage comes before it.")
        if cleaned:
            stages[slug] = cleaned
    return {**found, STAGES: stages} if stages else found


def applied(definition: Definition, slug: str, pacing: Mapping[str, Any]) -> Definition:
    """``definition`` of the stage ``slug``, as a run with ``pacing`` does it."""
    given = {name: pacing[name] for name in FIELDS if name in pacing} | pacing.get(STAGES, {}).get(slug, {})
    return replace(definition, **{FIELDS[name]: value for name, value in given.items()})


def of_options(pairs: Sequence[str]) -> Pacing:
    """``["batch_size=5", "ideas.max_items=100"]``, or ``["none"]``, as pacing that is still to be cleaned.

    Raises :class:`InvalidPacing`.
    """
    found: Pacing = {}
    for pair in () if list(pairs) == [NONE] else pairs:
        name, equals, text = pair.partition("=")
        stage, _, field = name.rpartition(".")
        if not equals or not field:
            raise InvalidPacing(f"Cannot use the pacing: expected [STAGE.]NAME=VALUE, got: {pair!r:.80}.")
        values = found.setdefault(STAGES, {}).setdefault(stage, {}) if stage else found
        if field in values:
            raise InvalidPacing(f"Cannot use the pacing: expected each name once, got {name!r:.80} twice.")
        values[field] = _number(text)
    return found


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _cleaned(of: str, given: Any, allowed: Iterable[str]) -> Pacing:
    if not isinstance(given, Mapping):
        raise _refusal(of.rstrip(".") or "pacing", "an object", given)
    for name in given:
        if name not in allowed:
            raise InvalidPacing(f"Cannot use {of}{name!s:.80} as pacing: expected one of {', '.join(allowed)}.")
    return {name: value if name == STAGES else _value(of, name, value) for name, value in given.items()}


def _value(of: str, name: str, value: Any) -> int | float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if name in MOST:
        if not is_number or value != int(value) or not 1 <= value <= MOST[name]:
            raise _refusal(f"{of}{name}", f"a whole number from 1 to {MOST[name]:,}", value)
        return int(value)
    if not is_number or not 0 <= value <= LONGEST_SECONDS:
        raise _refusal(f"{of}{name}", f"seconds from 0 to {LONGEST_SECONDS:,}", value)
    seconds: float = value
    return seconds


def _refusal(name: str, rule: str, value: Any) -> InvalidPacing:
    return InvalidPacing(f"Cannot use {name}: expected {rule}, got: {value!r:.80}.")


def words(pacing: Mapping[str, Any]) -> list[str]:
    """``["batch_size=5", "ideas.max_items=100"]``, as options give it."""
    of_all = [f"{name}={pacing[name]:g}" for name in FIELDS if name in pacing]
    of_stages = pacing.get(STAGES, {}).items()
    return of_all + [f"{slug}.{name}={value:g}" for slug, values in of_stages for name, value in values.items()]
