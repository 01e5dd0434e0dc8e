"""What the operating system says of who holds leases: who lives, who has ended, and whether that is an item's fault.

A process that died while it was at an item is a proof against the item only if nobody had told it to end and the
process that renews its leases lives on: a machine, a container or a worker that is killed as a whole says nothing
about an item.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from automation.leases.holders import Holder
from pause_manager.probes import processes


@dataclass
class OwnerStates:
    """Owners of leases, by what can be proven of them from here. Of all others nothing is known."""

    crashed: list[str] = field(default_factory=list)
    """Their process died on the item."""
    dead: list[str] = field(default_factory=list)
    """Their process has ended, and no item is to blame."""
    alive: list[str] = field(default_factory=list)
    """Their process lives and may work, however silent it is."""


def classify(holders: Iterable[Holder]) -> OwnerStates:
    """What can be proven of ``holders`` on this machine."""
    found = OwnerStates()
    for holder in holders:
        if processes.is_dead(holder.owner):
            (found.crashed if _is_item_to_blame(holder) else found.dead).append(holder.owner)
        elif processes.is_here(holder.owner) and not processes.is_stopped(holder.owner):
            found.alive.append(holder.owner)
    return found


def _is_item_to_blame(holder: Holder) -> bool:
    if holder.is_excused or not holder.keeper:
        return False
    is_its_own = holder.owner == holder.keeper or holder.owner.startswith(f"{holder.keeper}/")
    return is_its_own or (processes.is_here(holder.keeper) and not processes.is_dead(holder.keeper))
