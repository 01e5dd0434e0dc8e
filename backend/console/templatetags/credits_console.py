"""Amounts of credits in the console."""

from __future__ import annotations

from django import template

from automation.contrib.credits import amounts

register = template.Library()


@register.filter
def credits(thousandths: int | None) -> str:
    """``1234567`` as ``1,234.567``; a dash when unknown."""
    return "–" if thousandths is None else amounts.written(thousandths)
