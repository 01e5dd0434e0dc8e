"""Formats of numbers, times and words in the console."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.safestring import SafeString

from pause_manager import times

register = template.Library()
_SHELL = re.compile(r"\bshell:([\w.@+-]*\w)")


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
    """A ``<time>`` in UTC; the pages' script shows it as ``3 min ago``, with the exact time in the reader's zone."""
    if value is None:
        return "–"
    text = times.written(value)
    iso = value.astimezone(UTC).isoformat(timespec="seconds")
    # Of digits and letters only; a page has hundreds of them.
    return SafeString(f'<time datetime="{iso}" title="{text}">{text}</time>')


@register.filter
def count(value: int | None) -> str:
    """``12,345``; a dash when unknown."""
    return "–" if value is None else f"{value:,}"


@register.filter
def percent(value: float | None) -> str:
    """Whole percent, rounded down, so that 100 means all; a dash when unknown."""
    return "–" if value is None else f"{int(value)} %"


@register.filter
def rate(value: float | None) -> str:
    """Items per second, or per minute if that is below one; a dash when unknown."""
    if not value:
        return "–"
    if value >= 10:
        return f"{value:,.0f}/s"
    return f"{value:.1f}/s" if value >= 1 else f"{value * 60:.1f}/min"


@register.filter
def rate_per_minute(value: float) -> str:
    """Items per minute, as precise as it is of use: ``1,240``, ``3.5``, ``0``."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


@register.filter
def person(actor: str) -> str:
    """The name of an actor for people: ``anna``, ``root (shell)``."""
    kind, _, name = actor.partition(":")
    if kind == "shell" and name:
        return f"{name} (shell)"
    if kind == "run" and name:
        return f"the run itself ({name[:8]})"
    if kind == "window" and name:
        return f"pause window {name}"
    return actor.removeprefix("user:")


@register.filter
def people(sentence: str) -> str:
    """A sentence with its actors by the names that people have for them: ``root (shell)``."""
    return _SHELL.sub(r"\1 (shell)", sentence)


@register.filter
def short_id(value: Any) -> str:
    """The first eight digits of an id, which tell runs apart."""
    return str(value)[:8]


@register.filter
def in_words(status: str) -> str:
    """A status as words."""
    return status.replace("_", " ")
