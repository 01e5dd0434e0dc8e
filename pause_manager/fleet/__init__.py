"""The fleet switch: drain, quiesce, resume. What HTTP, the shell and every later door call."""

from pause_manager.fleet.switch import maintain, pause, resume, snapshot, state

__all__ = ["maintain", "pause", "resume", "snapshot", "state"]
