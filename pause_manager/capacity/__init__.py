"""The capacity policy: pure functions over what the fleet looks like at one time. No I/O, no clock, no Django.

``headroom`` and ``share`` measure, ``should_pause`` and ``place`` admit, ``judge`` watches one node, ``plan_resume``
sends parked work on, ``adapt`` moves a node's threshold. Every decision carries a code, a sentence and its figures.
"""

from pause_manager.capacity.admission import Placement, Verdict, admit, goes_behind, how_many_fit, place, should_pause
from pause_manager.capacity.headroom import GpuHeadroom, Headroom, Share
from pause_manager.capacity.idle import Idle
from pause_manager.capacity.node_headroom import container_fits, fits, headroom, is_readable, share, within
from pause_manager.capacity.outlook import outlook
from pause_manager.capacity.placement.consolidation import Consolidation, Move, consolidate, piece_of
from pause_manager.capacity.placement.eligible import can_ever_run
from pause_manager.capacity.placement.headrooms import Headrooms
from pause_manager.capacity.placement.ledger import ReservationLedger
from pause_manager.capacity.placement.ledgers import admission_ledger, resuming_ledger
from pause_manager.capacity.placement.queue_line import Line, Waiting
from pause_manager.capacity.placement.reserved_nodes import ReservedNode, has_node
from pause_manager.capacity.placement.sites import Sites
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.resuming import RampState, plan_resume
from pause_manager.capacity.threshold import Adaptation, adapt, with_threshold
from pause_manager.capacity.yielding import Judgement, NodeState, judge

__all__ = [
    "Adaptation",
    "Consolidation",
    "GpuHeadroom",
    "Headroom",
    "Headrooms",
    "Idle",
    "Judgement",
    "Line",
    "Move",
    "NodeState",
    "Placement",
    "Policy",
    "RampState",
    "ReservationLedger",
    "ReservedNode",
    "Share",
    "Sites",
    "Verdict",
    "Waiting",
    "adapt",
    "admission_ledger",
    "admit",
    "can_ever_run",
    "consolidate",
    "container_fits",
    "fits",
    "goes_behind",
    "has_node",
    "headroom",
    "how_many_fit",
    "is_readable",
    "judge",
    "outlook",
    "piece_of",
    "place",
    "plan_resume",
    "resuming_ledger",
    "share",
    "should_pause",
    "with_threshold",
    "within",
]
