"""Nodes for tests, as their workers would have left them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from pause_manager import nodes
from pause_manager.capacity.snapshot import NodeView
from pause_manager.models import WorkerNode
from pause_manager.probes.sample import Sample


def make_sample(name: str = "n1", **view: Any) -> Sample:
    """A sample of a machine with eight idle cores, taken now."""
    given = {"cores": 8.0, "foreign_cores": 0.0, "memory_mib": 16_384, "free_memory_mib": 12_288, **view}
    return Sample(view=NodeView(name=name, **{"sampled_at": time.time(), **given}))


def make_node(name: str = "n1", *, age_seconds: float = 0.0, is_live: bool = True, **view: Any) -> WorkerNode:
    """A node that was seen ``age_seconds`` ago; ``is_live``: Redis has its sample."""
    sample = make_sample(name, **view)
    nodes.save_sample(sample, boot_id=f"of {name}")
    if is_live:
        assert nodes.announce(sample)
    if age_seconds:
        WorkerNode.objects.filter(name=name).update(last_seen_at=Now() - timedelta(seconds=age_seconds))
    return WorkerNode.objects.get(name=name)
