"""The settings in force, as the page shows them: no secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from pause_manager import conf

SECRET = re.compile(r"token|secret|password|api_key|dsn", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
HIDDEN = "(hidden)"
LONGEST = 200


@dataclass(frozen=True)
class Option:
    """One option and its value."""

    name: str
    value: str
    is_changed: bool
    """Whether it has another value than the default."""


_sources: dict[str, Callable[[], Any]] = {"PAUSE_MANAGER": conf.settings}


def register(name: str, settings: Callable[[], Any]) -> None:
    """Add the settings of an app: their name in Django's settings, and what returns the dataclass in force."""
    _sources[name] = settings


def in_force() -> list[tuple[str, list[Option]]]:
    """By name of the setting, each option with its value; those that were changed first."""
    return [(name, _options(read())) for name, read in _sources.items()]


def _options(settings: Any) -> list[Option]:
    found = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        found.append(Option(one.name, _shown(one.name, value), value != default))
    return sorted(found, key=lambda option: not option.is_changed)


def _shown(name: str, value: Any) -> str:
    if value in ("", None, (), {}, []):
        return "–"
    if SECRET.search(name):
        return HIDDEN
    if isinstance(value, dict):
        text = ", ".join(f"{key}: {HIDDEN if SECRET.search(str(key)) else one}" for key, one in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(str(one) for one in value)
    else:
        text = str(value)
    text = LOGIN.sub(HIDDEN, text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
