"""The run that a call means which names a site instead of a run."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from automation.api.errors import AmbiguousRun, NoRun, RunNotFound
from automation.api.runs import selection
from automation.models import AutomationRun, Lifecycle, Site

HISTORY = 20

FRESH = {
    "pause": Q(paused_at__isnull=True, cancel_requested_at__isnull=True),
    "resume": Q(paused_at__isnull=False),
    "cancel": Q(cancel_requested_at__isnull=True),
}
"""By verb, the unfinished runs that it would change."""


def for_verb(user: Any, verb: str, run_id: str | None, site: str | None) -> AutomationRun:
    """The named run, which must be of the site if both are given; else the one run of the site that ``verb`` changes.

    Several such runs are refused with :class:`AmbiguousRun`. If none would change, returns the site's current run, and
    the verb then accepts or refuses it.
    """
    if run_id is not None:
        return of_site(user, run_id, site)
    assert site is not None
    place = selection.find_site(user, site)
    unfinished = selection.visible(user).unfinished().filter(site=place)
    able = list(unfinished.filter(FRESH[verb]).order_by("-created_at", "-id")[: HISTORY + 1])
    if len(able) > 1:
        ids = ", ".join(str(run.pk) for run in able[:HISTORY])
        raise AmbiguousRun(f"Cannot {verb}: site {place.slug} has several such runs, name one with run_id: {ids}.")
    found = able[0] if able else current(user, place)
    if found is None:
        raise NoRun(f"Cannot {verb}: site {place.slug} has no unfinished run.")
    return found


def of_site(user: Any, run_id: str, site: str | None) -> AutomationRun:
    """Return the run, which must belong to ``site`` if that is given."""
    run = selection.find(user, run_id)
    if site is not None and selection.find_site(user, site).pk != run.site_id:
        raise RunNotFound(run_id)
    return run


def current(user: Any, site: Site | None) -> AutomationRun | None:
    """Return the newest running run, else the newest that waits to start."""
    rows = selection.visible(user).unfinished()
    if site is not None:
        rows = rows.filter(site=site)
    for lifecycle in (Lifecycle.RUNNING, Lifecycle.PENDING):
        run: AutomationRun | None = rows.filter(lifecycle=lifecycle).order_by("-created_at", "-id").first()
        if run is not None:
            return run
    return None
