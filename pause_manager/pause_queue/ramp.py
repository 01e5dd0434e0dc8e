"""What polls remember from one to the next: how many may continue, what was sent on, which nodes are kept free."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson
from django.db import connection

from pause_manager import capacity
from pause_manager.capacity.needs import Needs
from pause_manager.models import PauseQueueEntry, PollState

_ENTRY = PauseQueueEntry._meta.db_table
_STORED = f"SELECT ramp::text FROM {PollState._meta.db_table} WHERE id = 1"

# A message that was taken up has started, unless its entry waits again; a run has, unless it was parked again.
_STARTED = f"""
    SELECT count(*) FROM {_ENTRY} AS entry
     WHERE id = ANY(%s) AND finished_at IS NOT NULL AND (outcome <> 'sent' OR confirmed_at IS NOT NULL)
       AND NOT (ref LIKE 'run:%%' AND EXISTS (
                SELECT FROM {_ENTRY} AS again WHERE again.ref = entry.ref AND again.finished_at IS NULL))
"""


@dataclass(frozen=True)
class Kept:
    """A node that is kept free for large work."""

    needs: Needs
    until: float | None = None
    """Its work has been sent on and may take until then (seconds since the epoch) to start; None: it waits still."""


@dataclass(frozen=True)
class Ramp:
    """The ramp, the nodes that are kept free, and the entries that the last poll sent on."""

    allowance: int = 1
    polled_at: float = 0.0
    kept: Mapping[str, Kept] = field(default_factory=dict)
    sent: tuple[int, ...] = ()
    making: tuple[capacity.ReservedNode, ...] = ()
    """Those of ``kept`` that other work was asked to leave: see ``pause_queue.consolidation``."""
    moved: tuple[tuple[str, float], ...] = ()
    """What was asked to move within the cooldown, each with the time."""

    @classmethod
    def stored(cls) -> Ramp:
        """As the last poll has left it."""
        with connection.cursor() as cursor:
            cursor.execute(_STORED)
            row = cursor.fetchone()
        return cls.of_dict(orjson.loads(row[0])) if row else cls()

    @classmethod
    def of_dict(cls, stored: Mapping[str, Any]) -> Ramp:
        """The ramp of :meth:`as_dict`."""
        kept = {name: Kept(Needs(**one["needs"]), one.get("until")) for name, one in stored.get("held_for", {}).items()}
        return cls(
            stored.get("allowance", 1),
            stored.get("polled_at", 0.0),
            kept,
            tuple(stored.get("sent", ())),
            tuple(capacity.ReservedNode(**{**one, "needs": Needs(**one["needs"])}) for one in stored.get("making", ())),
            tuple(sorted(stored.get("moved", {}).items())),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kept = {name: {"needs": asdict(one.needs), "until": one.until} for name, one in self.kept.items()}
        return {
            "allowance": self.allowance,
            "polled_at": self.polled_at,
            "held": sorted(kept),
            "held_for": kept,
            "sent": list(self.sent),
            "making": [asdict(one) for one in self.making],
            "moved": dict(self.moved),
        }

    def barred(self, needs: Needs, now: float) -> Collection[str]:
        """The nodes that are kept free for other work than that with ``needs``."""
        return {
            name for name, one in self.kept.items() if one.needs != needs and (one.until is None or now < one.until)
        }

    def backed_off(self) -> Ramp:
        """The same; if not all that was sent has started, with no more to send than twice what has."""
        if not self.sent:
            return self
        with connection.cursor() as cursor:
            cursor.execute(_STARTED, [list(self.sent)])
            (started,) = cursor.fetchone()
        return replace(self, allowance=min(self.allowance, max(1, 2 * started)))

    def renamed(self, old: str, new: str) -> Ramp:
        """The same with a node that is called ``new`` now."""
        kept = {new if name == old else name: one for name, one in self.kept.items()}
        making = tuple(replace(one, node=new) if one.node == old else one for one in self.making)
        return replace(self, kept=kept, making=making)

    @property
    def state(self) -> capacity.RampState:
        """As the policy takes it."""
        return capacity.RampState(
            self.allowance, self.polled_at, tuple(sorted(self.kept)), kept=self.making, moved=self.moved
        )

    def after(
        self, state: capacity.RampState, placed: Mapping[str, Needs], sent: Collection[int], until: float
    ) -> Ramp:
        """What the poll leaves that ended in ``state`` and sent work on, ``placed`` on these nodes.

        A node that was kept free for what continues now stays so ``until`` that has started.
        """
        kept = {name: Kept(needs) for name, needs in state.reserved_for}
        for name, one in self.kept.items():
            if name in kept:
                continue
            if one.until is None and placed.get(name) == one.needs:
                kept[name] = replace(one, until=until)
            elif one.until is not None and state.polled_at < one.until:
                kept[name] = one
        return Ramp(state.allowance, state.polled_at, kept, tuple(sent), state.kept, state.moved)
