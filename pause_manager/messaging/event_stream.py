"""The fan-out channel: every listener hears of each pause and resume, once it is committed.

One JSON object per message: ``action``, ``refs`` (what it happened to: ``run:…``, ``node:…``, names of callers),
``reason`` (a sentence), ``actor``. Redis keeps nothing: who was not there reads the events in the database.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from django.db import transaction
from django.dispatch import receiver

from pause_manager import conf
from pause_manager.actor import Actor
from pause_manager.messaging.publisher import Publisher
from pause_manager.signals import event_recorded

logger = logging.getLogger("pause_manager.messaging.event_stream")

ACTIONS = frozenset(
    {
        "hold_placed",
        "hold_released",
        "moved",
        "node_has_room",
        "node_kept",
        "node_renamed",
        "node_saturated",
        "out_of_memory",
        "parked",
        "sent_on",
        "threshold_moved",
        "yield_wanted",
    }
)
REFS_A_MESSAGE = 500

publisher = Publisher(logger, "pauses are not announced for a while")


@receiver(event_recorded)
def _announce(action: str, scopes: Sequence[str], actor: Actor, reason: str, **_: object) -> None:
    if action in ACTIONS and scopes:
        transaction.on_commit(partial(_tell, action, list(scopes), actor.name, reason), robust=True)


def _tell(action: str, refs: Sequence[str], actor: str, reason: str) -> None:
    parts = (refs[start : start + REFS_A_MESSAGE] for start in range(0, len(refs), REFS_A_MESSAGE))
    messages = ({"action": action, "refs": part, "reason": reason, "actor": actor} for part in parts)
    publisher.publish(conf.settings().events_channel, messages)
