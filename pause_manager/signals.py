"""How word of a change travels: upwards inside the transaction, and to the worker processes after it."""

from django.dispatch import Signal

hold_changing = Signal()
"""Sent by ``holds`` inside its transaction before it writes, with ``scopes``: lock what goes with them, in order."""

hold_changed = Signal()
"""Sent by ``holds`` inside its transaction, with ``scopes`` (texts), ``kind``, ``actor``, ``reason``, ``change``
("placed" | "altered" | "released") and ``details``: by scope, kept with the event; a receiver may add to them."""

event_recorded = Signal()
"""Sent by ``audit`` with ``action``, ``scopes`` (list of str), ``actor`` and ``reason`` of new events, inside the
caller's transaction."""

hold_expired = Signal()
"""Sent by ``holds.expire`` after a timed hold whose end action is not ours to carry out, with ``hold``."""

yield_wanted = Signal()
"""Sent when a node is contended, or kept free for larger work, with ``refs`` (of the loads that are to give way),
``reason`` and ``details``."""

forced_on = Signal()
"""Sent before an operator forces parked work on, with ``refs``: it is not to be parked again for want of room."""

layer_failed = Signal()
"""Sent when a layer of the gate could not be judged: ``layer``, by the names in ``layers``."""

machine_renamed = Signal()
"""Sent by ``renaming`` inside its transaction, with ``boot_id``, ``old`` and ``new``, while no work can start: whoever
has the node's old name in rows writes the new one there, one row after the other by their ids."""
