"""The one schedule of a site that callers know as its configuration: the schedule called ``automation``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automation.errors import InvalidSchedule
from automation.models import AutomationRun, Schedule, Site
from automation.schedules import definitions
from pause_manager.actor import Actor

NAME = "automation"


def find(site: Site) -> Schedule | None:
    """The configuration of ``site``, if it has one."""
    return Schedule.objects.select_related("site__account").filter(site=site, name=NAME).first()


def replace(site: Site, fields: Mapping[str, Any], *, actor: Actor, reason: str = "") -> Schedule:
    """Make ``fields`` the configuration of ``site``; what they leave out has its default, but items stay.

    Raises what ``definitions.create`` does.
    """
    found = find(site)
    if found is None:
        try:
            return definitions.create(site, {"name": NAME, **fields}, actor=actor, reason=reason)
        except InvalidSchedule:
            found = find(site)  # another caller may have been faster
            if found is None:
                raise
    return definitions.change(found.pk, {**_defaults(), **fields}, actor=actor, reason=reason)


def _defaults() -> dict[str, Any]:
    empty, names = Schedule(), set(definitions.FIELDS) - {"name", "items"}
    return {name: getattr(empty, name) for name in names}


def last_run(schedule: Schedule) -> AutomationRun | None:
    """The newest run of its pipeline that has started for its site."""
    rows = AutomationRun.objects.present().filter(
        site=schedule.site, pipeline=schedule.pipeline, started_at__isnull=False
    )
    return rows.order_by("-started_at").first()
