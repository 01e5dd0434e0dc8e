"""The system check of the settings of credits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import Error, register

from automation.contrib.credits.conf import CreditsSettings


@register("credits")
def settings_are_right(**_: Any) -> list[Error]:
    """Names, types and ranges of ``CREDITS``."""
    given = getattr(django_settings, "CREDITS", {})
    known = {field.name for field in fields(CreditsSettings)}
    found = []
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Expected one of {', '.join(sorted(known))}."
            found.append(Error(f"CREDITS: there is no option {name}.", hint=hint, id="credits.E001"))
    if found:
        return found
    options = CreditsSettings(**given)
    if not isinstance(options.margin, int | float) or not 1 <= options.margin <= 10:
        found.append(Error(f"CREDITS: margin: expected 1 to 10, got: {options.margin!r}.", id="credits.E002"))
    for name in ("assumed_words", "measured_runs"):
        value = getattr(options, name)
        if not isinstance(value, int) or value < 1:
            found.append(Error(f"CREDITS: {name}: expected a whole number above 0, got: {value!r}.", id="credits.E003"))
    if why := wrong_shares(options.shares):
        found.append(Error(f"CREDITS: shares: {why}.", id="credits.E004"))
    return found


def wrong_shares(shares: object) -> str:
    """What is wrong with the percentages of functions; empty if nothing."""
    if not isinstance(shares, Mapping) or not all(isinstance(name, str) for name in shares):
        return f"expected an object of functions and percentages, got: {shares!r:.200}"
    for name, percent in shares.items():
        if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
            return f"{name}: expected 0 to 100 percent, got: {percent!r:.40}"
    total = sum(shares.values())
    return f"expected at most 100 percent in all, got: {total}" if total > 100 else ""
