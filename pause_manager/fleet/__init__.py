"""The fleet switch: drain, quiesce, resume. What HTTP, the shell and every later door call."""

from pause_manager.fleet.switch import look_after, pause, resume, snapshot, state

__all__ = ["look_after", "pause", "resume", "snapshot", "state"]
