"""Who holds leases: workers and the machines they are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection

from automation.models import WorkSlice
from automation.models.tables import SLICE


@dataclass(frozen=True)
class Worker:
    """The holder of a lease: ``owner`` is a process identity and a task, ``node`` the machine's name."""

    owner: str
    node: str
    boot_id: str = ""
    """Of its machine: the machine's name at the time of the claim replaces ``node``. An agent has none."""
    keeper: str = ""
    """The process that renews the lease: the worker's main process. Empty for an agent."""


class Holder(NamedTuple):
    """An owner of leases."""

    owner: str
    keeper: str
    is_excused: bool


def rename_machine(old: str, new: str) -> None:
    """Write the new name of a machine to the leases on it."""
    with connection.cursor() as cursor:
        cursor.execute(_RENAME, {"old": old, "new": new})


def holders() -> list[Holder]:
    """Return the owners of the leases in force."""
    leased = WorkSlice.objects.leased().order_by()
    return [Holder(*row) for row in leased.values_list("lease_owner", "lease_keeper", "lease_excused").distinct()]


# Leased slices, and lost ones that may keep their admission.
_RENAME = f"""
    UPDATE {SLICE} AS slice SET lease_node = %(new)s
      FROM (SELECT id FROM {SLICE}
             WHERE lease_node = %(old)s AND finished_at IS NULL AND (lease_token IS NOT NULL OR lost_at IS NOT NULL)
             ORDER BY id FOR NO KEY UPDATE) AS of_node
     WHERE slice.id = of_node.id
"""
