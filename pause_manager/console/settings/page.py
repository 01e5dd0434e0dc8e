"""The page of settings: thresholds and what they would do, values set for a while, and what is in force."""

from __future__ import annotations

from typing import Any

import pause_manager
from pause_manager import conf, workloads
from pause_manager.console import links
from pause_manager.console.access import refusing
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.settings import actions, facts
from pause_manager.console.viewer import Viewer
from pause_manager.errors import PauseManagerError
from pause_manager.health import verdict
from pause_manager.models import Override, WorkerNode
from pause_manager.models.fleet import OPERATE
from pause_manager.nodes import operator_threshold, watching
from pause_manager.overrides import InvalidOverride, every_kind, kind_of
from pause_manager.pause_queue import what_if

MOST_NODES = 200
MOST_OVERRIDES = 100
MOST_ENDED = 10
TRIED = ("node", "pipeline")


@refusing("To see this page, you need the permission to operate the fleet.")
def may_view(user: Any) -> bool:
    """Those who may change what it shows."""
    return bool(user.has_perm(OPERATE))


def context(viewer: Viewer, query: Query) -> Context:
    """Return the settings; ``try`` and ``share`` name a threshold whose effect is to be told."""
    watch, judged = watching.read(), verdict.judge()
    policy = watch.policy_of()
    nodes = WorkerNode.objects.order_by("name")[:MOST_NODES]
    pipelines = sorted({kind.pipeline for kind in workloads.kinds()})
    return {
        "is_watched": watch.is_watched,
        "may_be_watched": conf.settings().capacity,
        "policy": policy,
        "nodes": [(node.name, node.pause_below, policy.pause_threshold(node.pause_below)) for node in nodes],
        "pipelines": [
            (name, watch.policy_of(name).pause_below, watch.pipeline_thresholds.get(name)) for name in pipelines
        ],
        "tried": _tried(query),
        "wanted": query.get("try", ""),
        "share": query.get("share", ""),
        "kinds": every_kind(),
        "units": actions.UNITS,
        "overrides": [_told(one) for one in Override.objects.active().order_by("-id")[:MOST_OVERRIDES]],
        "ended": [_told(one) for one in Override.objects.filter(ended_at__isnull=False).order_by("-id")[:MOST_ENDED]],
        "version": pause_manager.__version__,
        "verdict": judged,
        "is_held": any(one.answer == verdict.HELD for one in judged.answers),
        "settings": facts.in_force(),
    }


def _tried(query: Query) -> dict[str, str]:
    """What the threshold that was asked for would do, as a sentence."""
    kind, _, name = query.get("try", "").partition(":")
    if kind not in TRIED or not name or not query.get("share", "").strip():
        return {}
    try:
        share = operator_threshold.parsed(actions.as_share(query["share"]))
    except PauseManagerError as refusal:
        return {"refusal": str(refusal)}
    if share is None:
        return {"refusal": "Cannot try that: expected 0% to 100%."}
    effect = what_if.of_node(name, share) if kind == "node" else what_if.of_pipeline(name, share)
    return {"title": f"With {operator_threshold.told(share)} for {kind} {name}", "sentence": effect.sentence}


def _told(override: Override) -> dict[str, Any]:
    try:
        kind = kind_of(override.kind)
        title, value = kind.title, kind.told(override.value)
    except InvalidOverride:
        title, value = override.kind.replace("_", " "), str(override.value)
    return {"override": override, "title": title, "value": value, "subject": links.of(override.scope)}


PAGE = Page(
    name="settings",
    path="settings/",
    title="Settings",
    template="console/settings/content.html",
    context=context,
    may_view=may_view,
    icon="settings",
    order=320,
    key="n",
    refresh_seconds=10.0,
    is_shared=True,
    styles=("console/settings.css",),
    actions={
        "watch": Action(actions.watch, OPERATE),
        "threshold": Action(actions.threshold, OPERATE),
        "override": Action(actions.override, OPERATE),
        "end": Action(actions.end, OPERATE),
    },
)
