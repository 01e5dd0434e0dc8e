"""Whether capacity is watched: a state of the system, not of who asks. The only writer of that column.

``PAUSE_MANAGER["capacity"]`` says of a project that it never is.
"""

from __future__ import annotations

from django.db import connection, transaction

from pause_manager import conf
from pause_manager.actor import Actor
from pause_manager.models.fleet import ControlState
from pause_manager.observability import audit

_IS_WATCHED = f"SELECT coalesce((SELECT watches_capacity FROM {ControlState._meta.db_table} WHERE id = 1), true)"


def is_watched() -> bool:
    """Return whether room is asked for before work starts. One statement, unless the project's settings say no."""
    if not conf.settings().capacity:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_IS_WATCHED)
        return bool(cursor.fetchone()[0])


def set_watched(is_watched: bool, *, actor: Actor, reason: str = "") -> bool:
    """Watch capacity or do not; return whether that changed anything, which leaves an event.

    With it off nothing that starts asks for room, and the next poll sends on all that only capacity keeps.
    """
    with transaction.atomic():
        state, _ = ControlState.objects.select_for_update(no_key=True).get_or_create(pk=1)
        if state.watches_capacity == is_watched:
            return False
        ControlState.objects.filter(pk=1).update(watches_capacity=is_watched)
        audit.record(
            "capacity_watched" if is_watched else "capacity_unwatched",
            scope="fleet",
            actor=actor,
            reason=reason,
            before={"watches_capacity": not is_watched},
            after={"watches_capacity": is_watched},
        )
    return True
