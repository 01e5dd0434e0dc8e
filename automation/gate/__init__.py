"""The gate: why a run may not proceed. It reads the local database only, and what cannot be read forbids.

But for the order of a lane: one that cannot be read keeps nobody."""

from automation.gate.blocked import blocked, may_start
from automation.gate.explanation import GIVES_WAY, explain, explain_each
from automation.gate.lane_order import lane_has_active_run
from automation.gate.place_in_line import Place, place_in_line, places_in_line
from automation.gate.predicate import (
    OPEN,
    OPEN_IF_PLAIN,
    VALUE_TYPES,
    covering_scopes,
    holds_of_all_nodes,
    scopes_of,
    values,
)
from pause_manager.reasons import Reason, may_proceed

__all__ = [
    "GIVES_WAY",
    "OPEN",
    "OPEN_IF_PLAIN",
    "VALUE_TYPES",
    "Place",
    "Reason",
    "blocked",
    "covering_scopes",
    "explain",
    "explain_each",
    "holds_of_all_nodes",
    "lane_has_active_run",
    "may_proceed",
    "may_start",
    "place_in_line",
    "places_in_line",
    "scopes_of",
    "values",
]
