"""A node's state between processes."""

from __future__ import annotations

import json

from pause_manager.capacity import NodeState, Policy, judge, memory
from tests.unit.capacity.fleet import NOW, gpu, load, node


def test_a_state_is_the_same_after_a_journey_through_json():
    state = NodeState(contended_since=NOW - 60)
    view = node(foreign=7, gpus=[gpu(free=3_000)], loads=[load("r", cpu=4)])

    state, judgement = judge(view, state, Policy(), NOW)

    assert judgement.yields == ("r",)
    assert memory.load(json.loads(json.dumps(memory.dump(state)))) == state
