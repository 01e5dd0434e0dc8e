"""How the console writes numbers and times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.html import format_html

register = template.Library()


@register.filter
def duration(seconds: float | None) -> str:
    """``3 h 04 min``, ``2 min 05 s``, ``7 s``; a dash when unknown."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@register.filter
def moment(value: datetime | None) -> str:
    """A time with its zone, in UTC; the script of the pages shows it in the reader's own zone."""
    if value is None:
        return "–"
    at = value.astimezone(UTC)
    text = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(timespec="seconds"), text, text)


@register.filter
def count(value: int | None) -> str:
    """With thousands separated."""
    return "–" if value is None else f"{value:,}"


@register.filter
def percent(value: float | None) -> str:
    """Whole per cents, rounded down, so that 100 means all."""
    return "–" if value is None else f"{int(value)} %"


@register.filter
def rate(value: float | None) -> str:
    """Items a second, in a unit that leaves something to read."""
    if not value:
        return "–"
    if value >= 10:
        return f"{value:,.0f}/s"
    return f"{value:.1f}/s" if value >= 1 else f"{value * 60:.1f}/min"


@register.filter
def person(actor: str) -> str:
    """The name of an actor without its kind."""
    return actor.removeprefix("user:")


@register.filter
def short_id(value: Any) -> str:
    """Enough of an id to tell two runs apart."""
    return str(value)[:8]


@register.filter
def in_words(action: str) -> str:
    """An event's action as words."""
    return {"hold_placed": "paused", "hold_released": "resumed"}.get(action, action.replace("_", " "))
