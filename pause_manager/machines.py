"""Which machine this is: the only writer of the names of :class:`Machine`.

A machine is one boot id, which all of its containers share. Its name is that of its node, in holds, books and lists:
``PAUSE_MANAGER["node"]`` if it is set, else the host name that the first of its workers saw.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import conf, holds
from pause_manager.actor import SYSTEM
from pause_manager.models import FleetWorker, Hold, Machine, WorkerNode
from pause_manager.probes import processes

logger = logging.getLogger("pause_manager.machines")

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('slackwater machine names'))"
CONTESTED = timedelta(minutes=1)
"""For so long it is told that another machine asked for a name."""

_known = ""
"""The name, in a process that has read it; once and for all where it is the one that is wanted."""


class NameTaken(Exception):
    """Another machine that lives has the name of this one; the sentence says which, and what to do."""


def known_name() -> str:
    """The machine's name, or nothing as long as this process could not ask the database for it."""
    return _known


def name() -> str:
    """The machine's name. The first time it asks the database; whoever is first on a machine names it.

    Raises ``DatabaseError`` while it cannot be known, and :class:`NameTaken`.
    """
    if _known and _is_wanted(_known):
        return _known
    found = Machine.objects.filter(pk=processes.boot_id()).values_list("name", flat=True).first()
    if found is None:
        found = _register()
    # What was written is known only once it is committed.
    transaction.on_commit(lambda: _know(found), robust=True)
    return found


def settle_name() -> str:
    """The same, for the main process of a worker: a machine whose workers all want another name is given it."""
    found = name()
    if _is_wanted(found):
        return found
    if not _rename(found, conf.settings().node):
        _warn_once(
            f"This machine goes on as {found}, not as {conf.settings().node}: workers that are at work on it know it "
            f"by that name. Give all of its workers the same SLACKWATER_NODE, and restart them."
        )
        return found
    return name()


def forget_name() -> None:
    """Ask the database anew: it no longer knows this machine."""
    _know("")


def contested() -> list[str]:
    """A sentence for each name that another machine has lately asked for in vain."""
    recent = Machine.objects.filter(contested_at__gte=Now() - CONTESTED).order_by("name")
    return [
        f"two machines call themselves {machine.name}: {machine.contested_by} takes no work until it has another "
        "SLACKWATER_NODE"
        for machine in recent
    ]


def _wanted() -> str:
    return conf.settings().node or processes.host_name()[:100]


def _is_wanted(found: str) -> bool:
    return conf.settings().node in ("", found)


def _know(found: str) -> None:
    global _known
    _known = found


def _register() -> str:
    """Name this machine, unless somebody on it has just done so; answers its name."""
    boot, wanted = processes.boot_id(), _wanted()
    with transaction.atomic():
        _lock()
        found = Machine.objects.filter(pk=boot).values_list("name", flat=True).first()
        if found is not None:
            return found
        if not _is_taken(wanted):
            Machine.objects.create(boot_id=boot, name=wanted)
            logger.info("This machine is the node %s.", wanted)
            return wanted
    raise _refusal(wanted)


def _rename(old: str, new: str) -> bool:
    """Give this machine its new name, and its holds with it; not while others work on it under the old one."""
    with transaction.atomic():
        _lock()
        lately = Now() - timedelta(seconds=2 * conf.settings().worker_beat_seconds)
        others = FleetWorker.objects.filter(node=old, last_seen_at__gte=lately).exclude(owner=processes.identity())
        if others.exists():
            return False
        if not _is_taken(new):
            Machine.objects.filter(pk=processes.boot_id()).update(name=new)
            # The holds before the node's row, as claims do.
            _carry_holds(old, new)
            if WorkerNode.objects.filter(name=new).exists():
                WorkerNode.objects.filter(name=old).update(last_seen_at=Now() - timedelta(days=1))
            else:
                WorkerNode.objects.filter(name=old).update(name=new)
            logger.info("The node %s is called %s from now on.", old, new)
            return True
    raise _refusal(new)


def _carry_holds(old: str, new: str) -> None:
    why = f"{old} is called {new} from now on"
    for hold in Hold.objects.covering([f"node:{old}"]).order_by("id"):
        holds.place(
            [f"node:{new}"],
            kind=hold.kind,
            mode=hold.mode,
            actor=SYSTEM,
            reason=hold.reason,
            expires_at=hold.expires_at,
            on_expiry=hold.on_expiry,
        )
        holds.release([f"node:{old}"], kind=hold.kind, actor=SYSTEM, reason=why)


def _is_taken(wanted: str) -> bool:
    """Whether another machine that lives has the name. One that has not been heard of for long, perhaps this one
    before it was booted, lets go of it."""
    others = Machine.objects.filter(name=wanted).exclude(pk=processes.boot_id())
    gone = Now() - timedelta(seconds=conf.settings().unknown_seconds)
    others.filter(last_seen_at__lt=gone).delete()
    return bool(
        others.update(contested_at=Now(), contested_by=f"{processes.host_name()} (boot {processes.boot_id()[:8]})")
    )


def _refusal(wanted: str) -> NameTaken:
    return NameTaken(
        f"Another machine is the node {wanted}: it was heard of within the last {conf.settings().unknown_seconds:g} s, "
        f"and its boot id is not {processes.boot_id()}. Workers here take no work. Set SLACKWATER_NODE (or "
        f"PAUSE_MANAGER['node']) to another name in all containers of this machine."
    )


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)


_warned = ""


def _warn_once(sentence: str) -> None:
    global _warned
    if sentence != _warned:
        _warned = sentence
        logger.error("%s", sentence)
