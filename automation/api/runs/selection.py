"""The runs a caller may see, with everything needed to show them, in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from automation.api.errors import AmbiguousRun, LaneNotFound, RunNotFound, SiteNotFound
from automation.models import AutomationRun, Lane, Site
from automation.models.accounts import SiteQuerySet, accounts_of
from automation.models.runs import RunQuerySet
from automation.reports import status
from automation.retention import deletion
from automation.runs import run_names


def visible(user: Any) -> RunQuerySet:
    """The runs ``user`` may see, with site, leases, the run that retried them, and the database's time of reading."""
    runs: RunQuerySet = AutomationRun.objects.visible_to(user).with_leases().select_related("site")
    shown: RunQuerySet = runs.annotate(read_at=Now(), retried_by_id=F("retried_by__id"))
    return shown


def find(user: Any, run_id: str | UUID) -> AutomationRun:
    """Return the run with this name (see ``run_names``) among those that ``user`` may see.

    Raises :class:`RunNotFound` if it does not exist, belongs to others or cannot be a name, and :class:`AmbiguousRun`
    with the ids that begin with it.
    """
    try:
        return run_names.find(run_id, visible(user))
    except run_names.NoSuchRun:
        raise RunNotFound(str(run_id)) from None
    except run_names.AmbiguousRunName as error:
        raise AmbiguousRun(str(error)) from None


def find_by_id(user: Any, run_id: str) -> AutomationRun:
    """:func:`find` for a whole id and no other name. Raises :class:`RunNotFound`."""
    if not run_names.is_id(run_id):
        raise RunNotFound(run_id, f"Cannot find run {run_id[:64]!r}: expected its whole id.")
    return find(user, run_id)


def was_deleted(user: Any, run_id: str) -> bool:
    """Return whether a run that ``user`` could see had this id and was deleted."""
    try:
        pk = UUID(run_id)
    except ValueError:
        return False
    return deletion.was_deleted(pk, None if user.is_superuser else accounts_of(user))


def find_site(user: Any, name: str) -> Site:
    """Return the site with this slug or id, or raise :class:`SiteNotFound`."""
    sites: SiteQuerySet = Site.objects.visible_to(user)
    found: Site | None = sites.filter(slug=name).first()
    if found is None and name.isascii() and name.isdecimal() and len(name) < 19:
        found = sites.filter(pk=int(name)).first()
    if found is None:
        raise SiteNotFound(name)
    return found


def find_lane(user: Any, name: str) -> str:
    """Return the name of the lane if ``user`` may see it, or raise :class:`LaneNotFound`.

    Each site has a lane of its name, even before its first run.
    """
    sites: SiteQuerySet = Site.objects.visible_to(user)
    if sites.filter(slug=name).exists() or Lane.objects.visible_to(user).filter(name=name).exists():
        return name
    raise LaneNotFound(name)


def shown_status(run: AutomationRun) -> str:
    """The derived status of one run, ``waiting`` included."""
    return status.of(run)


def status_of_each(runs: Sequence[AutomationRun]) -> dict[UUID, str]:
    """The derived status of every run, in a fixed number of queries for all."""
    return status.of_each(runs)
