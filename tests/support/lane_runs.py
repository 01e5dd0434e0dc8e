"""Runs that wait for each other in one lane."""

from __future__ import annotations

from typing import Any

from automation import gate
from automation.models import AutomationRun, Lane, Site
from automation.runs import lanes
from tests.support.factories import OPERATOR, make_run, make_site


def make_lane(name: str = "", *, policy: str = Lane.Policy.STRICT, width: int = 1) -> Site:
    """A site whose runs take turns."""
    site = make_site(name)
    lanes.change(site.slug, policy=policy, width=width, actor=OPERATOR)
    return site


def in_lane(site: Site, count: int = 1, **options: Any) -> list[AutomationRun]:
    """Runs of the lane, in order; each of one item, so that no message is left over that would take another's turn."""
    return [make_run(site=site, **{"items": 1, **options}) for _ in range(count)]


def again(run: AutomationRun) -> AutomationRun:
    """The run as it is now."""
    return AutomationRun.objects.get(pk=run.pk)


def states(*runs: AutomationRun) -> list[str]:
    return [str(again(run).lifecycle) for run in runs]


def has_place(run: AutomationRun) -> bool:
    return again(run).lane_seat_at is not None


def codes(run: AutomationRun) -> list[str]:
    """What keeps the run."""
    return [reason.code for reason in gate.explain(again(run)) if reason.keeps]
