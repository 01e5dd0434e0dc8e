"""The fleet switch: drain, quiesce, resume, and what an operator sees meanwhile."""

from __future__ import annotations

from pause_manager import control_state
from pause_manager.control_state import State


def state() -> State:
    """Whether the fleet is paused; what cannot be read counts as paused. One read of one row."""
    return control_state.read()
