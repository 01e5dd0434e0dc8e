"""What the engine announces to itself, from below to above."""

from django.dispatch import Signal

places_freed = Signal()
"""Sent after a commit with ``lanes`` (set of str) in which a place became free, or a run may now have one."""
