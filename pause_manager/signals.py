"""What is announced to all who listen; what an app with work must do is in ``workloads``."""

from django.dispatch import Signal

event_recorded = Signal()
"""Sent by ``audit`` with ``action``, ``scopes`` (list of str), ``actor`` and ``reason`` of new events, inside the
caller's transaction."""

layer_failed = Signal()
"""Sent when a layer of the gate could not be judged: ``layer``, by the names in ``gate_health``."""
