"""Stages that leave items out because of their ``max_items``, in sentences."""

from __future__ import annotations

from automation.models import AutomationRun
from pause_manager.actor import SYSTEM
from pause_manager.reasons import Reason, ReasonCode

LIFTED_BY = "a run is started with the items that are left out, or with a higher max_items"


def sentence(slug: str, done: int, left_out: int) -> str:
    """``Stage ideas does 100 of 250 items, its limit in this run; 150 are left out.``"""
    return f"Stage {slug} does {done:,} of {done + left_out:,} items, its limit in this run; {left_out:,} are left out."


def of(run: AutomationRun) -> list[Reason]:
    """A reason that keeps nothing for each stage of ``run`` that leaves items out."""
    rows = run.stages.filter(left_out__gt=0).order_by("position")
    return [
        Reason(
            ReasonCode.ITEM_LIMIT,
            sentence(slug, total or 0, left_out),
            since,
            SYSTEM.name,
            LIFTED_BY,
            keeps=False,
            figures={"stage": slug, "max_items": total, "left_out": left_out},
        )
        for slug, total, left_out, since in rows.values_list("slug", "total_items", "left_out", "started_at")
    ]
