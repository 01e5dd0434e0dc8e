"""Whether capacity is watched, and by which thresholds: a state of the system, not of who asks. The only writer of
that column.

``PAUSE_MANAGER["capacity"]`` says of a project that it never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from django.db import connection, transaction

from pause_manager import conf
from pause_manager.actor import Actor
from pause_manager.capacity.policy import Policy
from pause_manager.models.fleet import ControlState
from pause_manager.observability import audit
from pause_manager.overrides import kinds

PIPELINE_THRESHOLD = "pipeline_threshold"
"""The kind of override that gives the work of a pipeline, or of a policy of tasks, another threshold."""

# Every claim with needs asks: both facts in one statement.
_READ = f"""
    SELECT coalesce((SELECT watches_capacity FROM {ControlState._meta.db_table} WHERE id = 1), true),
           {kinds.active_values(PIPELINE_THRESHOLD)}::text
"""


@dataclass(frozen=True)
class Watch:
    """Whether room is asked for before work starts, and the thresholds that operators have set for pipelines."""

    is_watched: bool = True
    pipeline_thresholds: Mapping[str, float] = field(default_factory=dict)

    def policy_of(self, pipeline: str = "") -> Policy:
        """The policy for work of ``pipeline``, or that of the fleet: that of the settings, with the threshold that an
        operator has set for a while."""
        policy = conf.settings().policy_of(pipeline)
        share = self.pipeline_thresholds.get(pipeline)
        return policy if share is None else policy.with_pause_below(share)


def read() -> Watch:
    """One statement, unless the project's settings say that capacity is never watched."""
    if not conf.settings().capacity:
        return Watch(is_watched=False)
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        is_watched, thresholds = cursor.fetchone()
    return Watch(bool(is_watched), orjson.loads(thresholds) if thresholds else {})


def is_watched() -> bool:
    """Return whether room is asked for before work starts. One statement, unless the project's settings say no."""
    return read().is_watched


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
