"""Pause windows: the one writer of :class:`PauseWindow`, and the reconciler of their holds.

What windows want now is compared with the holds of the kind ``window`` that there are, and made so. Nothing else is
kept, so that a restart, a change of a window, or beat being away for a while needs no repair. An operator's hold is of
another kind: no window ends it, and it ends no window.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction

from pause_manager import database, scopes, times
from pause_manager.actor import Actor
from pause_manager.database import advisory_locks
from pause_manager.errors import InvalidWindow, WindowRefused
from pause_manager.holds import writer
from pause_manager.models import SCOPE, SCOPES, Hold, PauseWindow
from pause_manager.models.clock import database_now
from pause_manager.observability import audit
from pause_manager.recurrence import periods
from pause_manager.recurrence.periods import Period

logger = logging.getLogger("pause_manager.holds.windows")

FIELDS = ("name", "scope", "mode", *PauseWindow.RULE, "duration_minutes", "reason", "is_enabled")
"""What a person sets."""
_FURTHEST = timedelta(days=14)
"""Windows that adjoin each other are followed so far for the end that is shown."""
_MOST_ADJOINING = 50
"""How many stretches are followed at most: a rule that comes each minute has thousands within that time."""
_KIND = Hold.Kind.WINDOW
_LOCK = "slackwater pause windows"


@dataclass(frozen=True)
class Wanted:
    """The hold that windows want on a scope now; ``actor`` names them."""

    mode: str
    reason: str
    actor: str
    until: datetime


def keep() -> int:
    """Place, alter and release the holds of windows as they are wanted now; returns how many were.

    An error is logged and keeps no other scope from its hold; it is tried again at the next call.
    """
    wanted = wanted_at(database_now(), list(PauseWindow.objects.filter(is_enabled=True)))
    held = {hold.scope: hold for hold in Hold.objects.active().filter(kind=_KIND)}
    changed = 0
    for scope in sorted({*wanted, *held}):
        try:
            # A transaction each: those who hold take locks in a fixed order.
            with transaction.atomic():
                changed += _keep(scope, wanted.get(scope), held.get(scope))
        except Exception as error:
            if database.is_away(error):
                raise
            logger.exception("The pause windows of %s could not be kept; the others are not affected.", scope)
    return changed


def _keep(scope: str, wanted: Wanted | None, held: Hold | None) -> bool:
    if not advisory_locks.lock(f"{_LOCK} {scope}"):
        return False  # another process does the same
    if wanted is None:
        actor = Actor("system", "worker")
        return bool(writer.release([scope], kind=_KIND, actor=actor, reason="its pause window is over"))
    actor = Actor(wanted.actor, "window")
    given: dict[str, Any] = {"kind": _KIND, "mode": wanted.mode, "reason": wanted.reason, "expires_at": wanted.until}
    if held is None:
        return bool(writer.place([scope], actor=actor, **given))
    if (held.mode, held.reason, held.expires_at) == (wanted.mode, wanted.reason, wanted.until):
        return False
    return bool(writer.alter([scope], actor=actor, **given))


def wanted_at(now: datetime, windows: Iterable[PauseWindow]) -> dict[str, Wanted]:
    """By scope, the hold that ``windows`` want: the strictest mode, until the last of those that adjoin has ended."""
    of_scope: dict[str, list[PauseWindow]] = {}
    for window in windows:
        of_scope.setdefault(window.scope, []).append(window)
    found = {}
    for scope, candidates in of_scope.items():
        open_now = [(window, period) for window in candidates if (period := _period_at(window, now))]
        if not open_now:
            continue
        names = ", ".join(window.name for window, _ in open_now)
        modes = {window.mode for window, _ in open_now}
        found[scope] = Wanted(
            mode=str(Hold.Mode.QUIESCE if Hold.Mode.QUIESCE in modes else Hold.Mode.DRAIN),
            reason="; ".join(window.reason.removesuffix(".") for window, _ in open_now),
            actor=f"window:{names}"[:160],
            until=_end(candidates, max(end for _, (_, end) in open_now), now),
        )
    return found


def _end(windows: list[PauseWindow], until: datetime, now: datetime) -> datetime:
    """When the last of ``windows`` ends that overlap or adjoin each other from ``until`` on."""
    for _ in range(_MOST_ADJOINING):
        if until >= now + _FURTHEST:
            break
        further = [period[1] for window in windows if (period := _period_at(window, until))]
        if not further or max(further) <= until:
            return until
        until = max(further)
    return until


def _period_at(window: PauseWindow, moment: datetime) -> Period | None:
    found = periods.at(window.rule, window.duration, moment)
    is_skipped = found is not None and window.skipped_until is not None and found[1] <= window.skipped_until
    return None if is_skipped else found


def current_or_next(window: PauseWindow, now: datetime) -> Period | None:
    """The stretch of ``window`` that is open now, else the next that is not skipped; ``None`` if it comes no more."""
    if open_now := _period_at(window, now):
        return open_now
    after = max(now, window.skipped_until) if window.skipped_until else now
    return periods.following(window.rule, window.duration, after)


def create(fields: Mapping[str, Any], *, actor: Actor, reason: str = "") -> PauseWindow:
    """Create a window from ``fields``, some of ``FIELDS``. Raises :class:`InvalidWindow`."""
    window = PauseWindow(created_by=actor.name, anchor=_minute(database_now()), **fields)
    check(window)
    with _unique_name(), transaction.atomic():
        window.save(force_insert=True)
        audit.record("window_created", scope=window.scope, actor=actor, reason=reason, after=facts(window, FIELDS))
    keep()
    return window


def change(name: str, fields: Mapping[str, Any], *, actor: Actor, reason: str = "") -> PauseWindow:
    """Change a window; its hold follows at once.

    Raises :class:`InvalidWindow`, or :class:`WindowRefused` if it is gone.
    """
    with _unique_name(), transaction.atomic():
        window = _locked("change", name)
        changed = [one for one in FIELDS if one in fields and fields[one] != getattr(window, one)]
        before = facts(window, changed)
        for one in changed:
            setattr(window, one, fields[one])
        if {"kind", "every_minutes"} & set(changed):
            window.anchor = _minute(database_now())
        check(window)
        if changed:
            values = {one: getattr(window, one) for one in (*changed, "anchor")}
            PauseWindow.objects.filter(pk=window.pk).update(**values)
            after = facts(window, changed)
            audit.record("window_changed", scope=window.scope, actor=actor, reason=reason, before=before, after=after)
    keep()
    return window


def delete(name: str, *, actor: Actor, reason: str = "") -> None:
    """Delete a window; its hold is released. Raises :class:`WindowRefused` if it is gone."""
    with transaction.atomic():
        window = _locked("delete", name)
        PauseWindow.objects.filter(pk=window.pk).delete()
        audit.record("window_deleted", scope=window.scope, actor=actor, reason=reason, before=facts(window, FIELDS))
    keep()


def skip(name: str, *, actor: Actor, reason: str = "") -> Period:
    """End the stretch that is open now, or skip the next one; returns it. Raises :class:`WindowRefused`."""
    with transaction.atomic():
        window = _locked("skip", name)
        found = current_or_next(window, database_now())
        if found is None:
            raise WindowRefused(f"Cannot skip pause window {name}: it comes no more.")
        PauseWindow.objects.filter(pk=window.pk).update(skipped_until=found[1])
        details = {"window": name, "from": found[0].isoformat(), "until": found[1].isoformat()}
        audit.record("window_skipped", scope=window.scope, actor=actor, reason=reason, details=details)
    keep()
    return found


def check(window: PauseWindow) -> None:
    """Raise :class:`InvalidWindow` with the first field that is wrong and what is allowed."""
    if not SCOPE.fullmatch(window.scope) or scopes.is_run(window.scope):
        allowed = SCOPES.replace("run:x, ", "")
        raise InvalidWindow(f"Cannot save the pause window: scope: expected {allowed}, got: {window.scope[:120]!r}.")
    try:
        window.full_clean(exclude=["anchor", "created_by"])
    except ValidationError as error:
        told = error.message_dict
        field = next(iter(told))
        what = told[field][0] if field == NON_FIELD_ERRORS else f"{field}: {told[field][0]}"
        raise InvalidWindow(f"Cannot save the pause window: {what}") from None


def facts(window: PauseWindow, names: Iterable[str]) -> dict[str, Any]:
    """What events record of ``names``."""
    told = {name: getattr(window, name) for name in names}
    return {name: str(value) if hasattr(value, "isoformat") else value for name, value in told.items()}


def words(window: PauseWindow) -> str:
    """When it holds, for people: ``every day 22:00, Europe/Berlin, for 8 h 00 min``."""
    return f"{window.rule.words()}, for {times.length(window.duration_minutes * 60)}"


def _locked(verb: str, name: str) -> PauseWindow:
    window = PauseWindow.objects.select_for_update().filter(name=name).first()
    if window is None:
        raise WindowRefused(f"Cannot {verb} pause window {name}: it does not exist any more.")
    return window


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


@contextmanager
def _unique_name() -> Iterator[None]:
    """Two callers at once may take the same name: the second is told so."""
    try:
        yield
    except IntegrityError as error:
        if "pausewindow_name" not in str(error):
            raise
        raise InvalidWindow("Cannot save the pause window: name: there is a pause window of this name.") from None
