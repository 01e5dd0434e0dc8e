"""A machine is given another name when all of its live workers want that one, with all that hangs on its name.

Workers that are restarted one after the other want different names for a while. The machine has one all the same, and
each of them works under that.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import OperationalError, connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from pause_manager import conf, holds, workloads
from pause_manager.actor import SYSTEM
from pause_manager.database import advisory_locks
from pause_manager.messaging import notifier
from pause_manager.models import FleetWorker, Machine
from pause_manager.nodes import members, registry
from pause_manager.nodes.machines import identity
from pause_manager.observability import audit
from pause_manager.probes import processes

logger = logging.getLogger("pause_manager.nodes.machines.renaming")

LOCK_SECONDS = 5
"""For so long the renaming waits for what is about to start; the next look at the name tries again."""
MOST_NAMED = 3

_warned = ""


def settle_name() -> str:
    """The machine's name, for the main process of a worker; it is first renamed if all of its live workers want that.

    Raises ``DatabaseError`` while the name cannot be known, and ``machines.NameTaken``.
    """
    found, wanted = identity.name(), conf.settings().node
    if wanted in ("", found):
        return found
    try:
        is_renamed = _rename(found, wanted)
    except OperationalError as error:
        logger.info("%s is not called %s yet (%s): it is tried again.", found, wanted, str(error).strip())
        return found
    if is_renamed:
        return identity.name()
    _warn_once(
        f"This machine continues as {found}, not as {wanted}, until all of its workers ask for that: give them the "
        "same SLACKWATER_NODE, and restart them."
    )
    return found


def differing() -> list[str]:
    """A sentence for each machine whose live workers ask for different names."""
    asked: dict[str, dict[str, list[str]]] = {}
    workers = _live().exclude(boot_id="").order_by("name", "id")
    for boot_id, wanted, worker in workers.values_list("boot_id", "wanted_node", "name"):
        asked.setdefault(boot_id, {}).setdefault(wanted, []).append(worker)
    named = dict(Machine.objects.filter(pk__in=asked).values_list("pk", "name"))
    return [
        f"workers of {named[boot_id]} ask for different names of their machine: {_listed(names)}; it is called "
        f"{named[boot_id]} until all of them have the same SLACKWATER_NODE"
        for boot_id, names in asked.items()
        if boot_id in named and len(names) > 1 and not names.keys() <= {"", named[boot_id]}
    ]


def _listed(names: dict[str, list[str]]) -> str:
    return ", ".join(f"{name or 'none'} ({_some(workers)})" for name, workers in sorted(names.items(), reverse=True))


def _some(workers: list[str]) -> str:
    more = len(workers) - MOST_NAMED
    return ", ".join(workers[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _live() -> QuerySet[FleetWorker]:
    """One that has been silent for two beats wants nothing: nobody knows whether it lives."""
    silent = timedelta(seconds=workloads.SILENT_BEATS * conf.settings().worker_beat_seconds)
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - silent)


def _rename(old: str, new: str) -> bool:
    """Give this machine its new name, unless another of its workers wants a different one; return whether it has it.

    What starts work reads the name after it has taken its share, or holds the machine's row, and so writes either name
    before this begins or the new one. Order of the locks: the names, the poll, what is held, the machine, the rows.
    """
    boot_id = processes.boot_id()
    with transaction.atomic():
        _wait_at_most(LOCK_SECONDS)
        identity.lock_names()
        if Machine.objects.filter(pk=boot_id, name=old).first() is None:
            return True  # Another worker has just done it.
        # One of an older release says neither what it wants nor where it is.
        here = _live().filter(Q(boot_id=boot_id) | Q(boot_id="", node=old)).exclude(owner=processes.identity())
        if here.exclude(wanted_node=new).exists():
            return False
        if not identity.is_taken(new):
            advisory_locks.exclude_polls()
            scopes = [f"node:{old}", f"node:{new}"]
            holds.exclude_starts(scopes)
            Machine.objects.filter(pk=boot_id).update(name=new)
            why = f"{old} is called {new} from now on"
            holds.move(*scopes, actor=SYSTEM, reason=why)
            members.rename_machine(boot_id, old, new)
            registry.rename_machine(old, new)
            workloads.machine_renamed(boot_id, old, new)
            audit.record(
                "node_renamed", scope=scopes[1], actor=SYSTEM, reason=why, before={"name": old}, after={"name": new}
            )
            notifier.changed(*scopes)
            return True
    raise identity.NameTaken(identity.refusal(new))


def _wait_at_most(seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{seconds}s'")


def _warn_once(sentence: str) -> None:
    global _warned
    if sentence != _warned:
        _warned = sentence
        logger.warning("%s", sentence)
