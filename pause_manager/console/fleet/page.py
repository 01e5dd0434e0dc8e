"""The fleet page: the switch and how far a pause has come."""

from __future__ import annotations

from pause_manager import fleet
from pause_manager.console.access import is_signed_in
from pause_manager.console.fleet import actions
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.viewer import Viewer
from pause_manager.models.fleet import OPERATE


def context(viewer: Viewer, query: Query) -> Context:
    """Return the context of the page."""
    may_operate = viewer.has_perm(OPERATE)
    return {"fleet": fleet.snapshot(with_blockers=may_operate), "may_operate": may_operate}


PAGE = Page(
    name="fleet",
    path="fleet/",
    title="Fleet",
    template="console/fleet/content.html",
    context=context,
    may_view=is_signed_in,
    icon="fleet",
    order=200,
    key="f",
    refresh_seconds=2.0,
    is_shared=True,
    actions={"pause": Action(actions.pause, OPERATE), "resume": Action(actions.resume, OPERATE)},
)
