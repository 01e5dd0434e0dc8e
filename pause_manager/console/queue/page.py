"""The page of the pause queue: what waits in the order in which it continues, and why."""

from __future__ import annotations

from dataclasses import dataclass

from pause_manager import conf
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.queue import actions, rows
from pause_manager.console.viewer import Viewer
from pause_manager.models import PollState
from pause_manager.models.clock import database_now
from pause_manager.nodes import report, watching

MOST_MACHINES = 6


@dataclass(frozen=True)
class Room:
    """What a machine has left for new work."""

    name: str
    words: str
    is_taking: bool


def context(viewer: Viewer, query: Query) -> Context:
    """Return the context of the page; ``query`` has ``show`` (a filter) and ``after`` (where a page has ended)."""
    user = viewer.user
    chosen = query.get("show", "") if query.get("show", "") in rows.FILTERS else ""
    after = query.get("after", "")
    listed = rows.listed(user, chosen, after)
    return {
        "rows": listed.rows,
        "following": listed.following,
        "filters": list(rows.FILTERS.items()),
        "chosen": chosen,
        "is_first": not after,
        "is_waiting": chosen in ("", "stuck"),
        "may_change": actions.may_change(user),
        "rooms": rooms(),
        "is_watched": watching.is_watched(),
        "next_look": next_look(),
    }


def rooms() -> list[Room]:
    """Return what the machines have left, the roomiest first."""
    shown = sorted(report.shown(), key=lambda node: -node["room_cores"])[:MOST_MACHINES]
    return [
        Room(
            node["id"],
            f"{round(max(0.0, node['room_cores']), 1):g} of {node['cores']:g} cores free"
            if node["is_online"]
            else "silent",
            node["is_online"] and node["is_consuming"] and node["held"] is None,
        )
        for node in shown
    ]


def next_look() -> float | None:
    """Return in how many seconds the queue is polled next, 0 if that is late; ``None`` if it never was."""
    polled_at = PollState.objects.values_list("polled_at", flat=True).first()
    if polled_at is None:
        return None
    return max(0.0, conf.settings().poll_interval_seconds - (database_now() - polled_at).total_seconds())


PAGE = Page(
    name="pause-queue",
    path="pause-queue/",
    title="Pause queue",
    template="console/queue/content.html",
    context=context,
    may_view=actions.may_view,
    icon="queue",
    order=210,
    key="q",
    refresh_seconds=3.0,
    styles=("console/fleet.css",),
    actions={
        name: Action(run, actions.may_change)
        for name, run in {
            "force": actions.force,
            "hold": actions.hold,
            "drop": actions.drop,
            "reroute": actions.reroute,
            "rename": actions.rename,
        }.items()
    },
)
