"""The values of runs and lanes that operators may set for a while."""

from automation.overrides.lane_width import LaneWidth
from automation.overrides.run_priority import RunPriority
from automation.overrides.stage_concurrency import StageConcurrency

KINDS = (LaneWidth(), RunPriority(), StageConcurrency())
"""What the app registers."""

__all__ = ["KINDS"]
