"""Pause windows, and the clock moved under them: their rules go into the past."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pause_manager.holds import windows
from pause_manager.models import PauseWindow
from pause_manager.models.clock import database_now
from tests.support.factories import OPERATOR


def clock_in(minutes: int) -> Any:
    """What clocks in UTC show in that many minutes; negative: ago."""
    return (database_now() + timedelta(minutes=minutes)).time().replace(second=0, microsecond=0)


def make_window(
    scope: str, *, name: str = "nights", begins_in: int = 60, minutes: int = 120, **more: Any
) -> PauseWindow:
    """A daily window that begins in ``begins_in`` minutes (negative: ago) and is open for ``minutes``."""
    rule = {} if "kind" in more else {"kind": "daily", "at": clock_in(begins_in)}
    given = {"name": name, "scope": scope, "duration_minutes": minutes, "reason": "the studio renders", **rule, **more}
    return windows.create(given, actor=OPERATOR)


def open_window(scope: str, **more: Any) -> PauseWindow:
    """One that has been open for half an hour and is so for an hour and a half more."""
    return make_window(scope, begins_in=-30, **more)


def its_time_passes(window: PauseWindow) -> None:
    """Its stretch is over, as if it had begun three hours before."""
    assert window.at is not None
    earlier = (datetime.combine(database_now().date(), window.at) - timedelta(hours=3)).time()
    PauseWindow.objects.filter(pk=window.pk).update(at=earlier)
