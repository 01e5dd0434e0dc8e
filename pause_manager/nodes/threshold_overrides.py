"""Thresholds that operators set for a while: of a node, and of the work of a pipeline."""

from __future__ import annotations

import re
from typing import Any

from pause_manager import conf, workloads
from pause_manager.messaging import notifier
from pause_manager.nodes import operator_threshold, registry
from pause_manager.nodes.watching import PIPELINE_THRESHOLD
from pause_manager.overrides.kinds import InvalidOverride, OverrideKind, OverrideTargetUnknown

_PIPELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VALUES = "0% to 100%, or 0 to 1"


class _Threshold(OverrideKind):
    values = _VALUES

    def value(self, text: str) -> float:
        try:
            share = operator_threshold.parsed(text)
        except operator_threshold.InvalidThreshold:
            share = None
        if share is None:
            raise self.invalid_value(text)
        return share

    def told(self, value: Any) -> str:
        return operator_threshold.told(value)


class NodeThreshold(_Threshold):
    """A column that samplers, verdicts and claims read: written over, and put back.

    The node is found again by its key: it may have been renamed meanwhile.
    """

    name = "node_threshold"
    title = "threshold of node"
    targets = "the name of a node"

    def target(self, text: str) -> str:
        if not conf.MACHINE_NAME.fullmatch(text):
            raise self.invalid_target(text)
        return text

    def scope(self, target: str) -> str:
        return f"node:{target}"

    def apply(self, target: str, value: Any) -> dict[str, Any]:
        before = registry.override_threshold(target, value)
        if before is None:
            raise OverrideTargetUnknown(f"Cannot override the threshold of node {target}: none of that name is known.")
        return {"node": before[0], "pause_below": before[1]}

    def restore(self, target: str, value: Any, previous: Any) -> str:
        if registry.restore_threshold(previous["node"], value, previous["pause_below"]):
            return f"the threshold is {operator_threshold.told(previous['pause_below'])} again"
        return "the threshold was changed meanwhile, and stays so"

    def followed(self, target: str) -> None:
        notifier.changed(f"node:{target}")


class PipelineThreshold(_Threshold):
    """It stands in the settings: who asks whether capacity is watched reads what overrides it in the same statement."""

    name = PIPELINE_THRESHOLD
    title = "threshold of pipeline"
    targets = "the slug of a pipeline, or the name of a policy of tasks"

    def target(self, text: str) -> str:
        if not _PIPELINE.fullmatch(text):
            raise self.invalid_target(text)
        return text

    def scope(self, target: str) -> str:
        return f"pipeline:{target}"

    def apply(self, target: str, value: Any) -> None:
        known = {kind.pipeline for kind in workloads.kinds()} | conf.settings().pipeline_policies.keys()
        if target not in known:
            named = ", ".join(sorted(known)) or "none"
            raise InvalidOverride(f"Cannot override the threshold of pipeline {target}: expected one of: {named}.")

    def restore(self, target: str, value: Any, previous: Any) -> str:
        return "the threshold is that of the settings again"
