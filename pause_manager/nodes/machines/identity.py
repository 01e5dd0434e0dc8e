"""Which machine this is, and what it is called: with ``renaming`` the only writer of the names of :class:`Machine`.

A machine is one boot id, which all of its containers share. Its name is that of its node, in holds, books and lists:
``PAUSE_MANAGER["node"]`` if it is set, else the host name that the first of its workers saw. The name may change; who
writes it into a row asks for it in the same transaction.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.models import Machine
from pause_manager.probes import processes

logger = logging.getLogger("pause_manager.nodes.machines.identity")

MACHINE = Machine._meta.db_table
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('slackwater machine names'))"
_NAME = f"SELECT name FROM {MACHINE} WHERE boot_id = %s"
CONTESTED = timedelta(minutes=1)
"""For so long it is told that another machine asked for a name."""

_known = ""
"""The name, as this process read it last."""


class NameTaken(Exception):
    """Another machine that lives has the name of this one; the sentence says which, and what to do."""


def known_name() -> str:
    """The machine's name as this process knows it, or nothing as long as it could not ask the database for it."""
    return _known


def name(*, stays: bool = False) -> str:
    """The machine's name as it is now; the first process on a machine names it.

    With ``stays`` it is not renamed until the caller's transaction ends. Raises ``DatabaseError`` while the name cannot
    be known, and :class:`NameTaken`.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"{_NAME} FOR KEY SHARE" if stays else _NAME, [processes.boot_id()])
        found = cursor.fetchone()
    if found is None:
        registered = _register()
        # What was written is known only once it is committed.
        transaction.on_commit(lambda: know(registered), robust=True)
        return registered
    called: str = found[0]
    know(called)
    return called


def know(found: str) -> None:
    """Remember the machine's name, which was read just now."""
    global _known
    _known = found


def forget_name() -> None:
    """Forget the name, which is not valid any more: the next look asks the database again."""
    know("")


def contested() -> list[str]:
    """A sentence for each name that another machine has lately asked for in vain."""
    recent = Machine.objects.filter(contested_at__gte=Now() - CONTESTED).order_by("name")
    return [
        f"two machines call themselves {machine.name}: {machine.contested_by} takes no work until it has another "
        "SLACKWATER_NODE"
        for machine in recent
    ]


def _register() -> str:
    """Name this machine, unless somebody on it has just done so; answers its name."""
    boot, wanted = processes.boot_id(), conf.settings().node or processes.host_name()[:100]
    with transaction.atomic():
        lock_names()
        found = Machine.objects.filter(pk=boot).values_list("name", flat=True).first()
        if found is not None:
            return found
        if not is_taken(wanted):
            Machine.objects.create(boot_id=boot, name=wanted)
            logger.info("This machine is the node %s.", wanted)
            return wanted
    raise NameTaken(refusal(wanted))


def is_taken(wanted: str) -> bool:
    """Return whether another machine that lives has the name. One that has not been heard of for long, perhaps this one
    before it was booted, lets go of it. Call it after :func:`lock_names`; it notes who has asked."""
    others = Machine.objects.filter(name=wanted).exclude(pk=processes.boot_id())
    gone = Now() - timedelta(seconds=conf.settings().unknown_seconds)
    others.filter(last_seen_at__lt=gone).delete()
    return bool(
        others.update(contested_at=Now(), contested_by=f"{processes.host_name()} (boot {processes.boot_id()[:8]})")
    )


def refusal(wanted: str) -> str:
    """Return why this machine cannot be called ``wanted``, and what to do."""
    return (
        f"Another machine is the node {wanted}: it was heard of within the last {conf.settings().unknown_seconds:g} s, "
        f"and its boot id is not {processes.boot_id()}. Workers here take no work. Set SLACKWATER_NODE (or "
        f"PAUSE_MANAGER['node']) to another name in all containers of this machine."
    )


def lock_names() -> None:
    """No machine is named or renamed until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
