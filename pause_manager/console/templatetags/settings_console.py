"""Shares in the console's page of settings."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def share(value: float | None) -> str:
    """``0.35`` as ``35 %``; a dash when unknown."""
    return "–" if value is None else f"{round(value * 100, 2):g} %"
