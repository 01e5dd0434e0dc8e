"""The check of a settings dictionary against the frozen class that declares it."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import Any, get_origin, get_type_hints

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error


def check_declared(setting: str, declared: type[Any], prefix: str) -> list[CheckMessage]:
    """Errors for each name of ``settings.<setting>`` that is unknown or of the wrong type."""
    given = getattr(django_settings, setting, {})
    if not isinstance(given, dict):
        return [Error(f"{setting} expected a dictionary, got: {type(given).__name__}", id=f"{prefix}.E010")]
    types = get_type_hints(declared)
    names = [field.name for field in dataclasses.fields(declared)]
    errors: list[CheckMessage] = []
    for name, value in given.items():
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Allowed: " + ", ".join(names)
            errors.append(Error(f"{setting} has no option {name!r}.", hint=hint, id=f"{prefix}.E011"))
        elif not _fits(value, types[name]):
            rule = getattr(types[name], "__name__", types[name])
            errors.append(Error(f"{setting}[{name!r}] expected {rule}, got: {value!r}", id=f"{prefix}.E012"))
        elif isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            errors.append(Error(f"{setting}[{name!r}] expected a number > 0, got: {value!r}", id=f"{prefix}.E013"))
    return errors


def _fits(value: Any, declared: Any) -> bool:
    if declared is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(declared) or declared)
