"""Close sites and accounts, which then take no new runs. Their data stay until they are purged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.models.functions import Now

from automation.errors import ClosingRefused
from automation.models import Account, AutomationRun, Site
from automation.runs import lifecycle
from pause_manager.actor import Actor
from pause_manager.observability import audit


def close_site(site: Site, *, actor: Actor, reason: str = "", cancels_runs: bool = False) -> bool:
    """Close ``site``; False if it was closed before. Unfinished runs are cancelled if ``cancels_runs``.

    Raises ``ClosingRefused`` and changes nothing if there are unfinished runs and ``cancels_runs`` is False.
    """
    return _close(site, f"site {site.slug}", [site.pk], actor, reason, cancels_runs)


def close_account(account: Account, *, actor: Actor, reason: str = "", cancels_runs: bool = False) -> bool:
    """Close ``account`` with all of its sites, as :func:`close_site`, at once."""
    sites = list(account.sites.order_by("pk").values_list("pk", flat=True))
    return _close(account, f"account {account.name}", sites, actor, reason, cancels_runs)


def reopen(place: Site | Account, *, actor: Actor, reason: str = "") -> bool:
    """Let a closed site or account take runs again; False if it is not closed."""
    with transaction.atomic():
        reopened = type(place)._default_manager.filter(pk=place.pk, closed_at__isnull=False).update(closed_at=None)
        if reopened:
            audit.record("reopened", scope=_scope(place), actor=actor, reason=reason)
    return bool(reopened)


def _close(place: Model, name: str, sites: Sequence[int], actor: Actor, reason: str, cancels_runs: bool) -> bool:
    with transaction.atomic():
        # Creating a run locks its site and then checks whether it is closed (see creation.create).
        list(Site.objects.select_for_update().filter(pk__in=sites).order_by("pk").values_list("pk"))
        open_ones = type(place)._default_manager.filter(pk=place.pk, closed_at__isnull=True)
        if not open_ones.update(closed_at=Now()):
            return False
        unfinished = AutomationRun.objects.unfinished().filter(site__in=sites)
        runs = list(unfinished.order_by("pk").values_list("pk", flat=True))
        if runs and not cancels_runs:
            raise ClosingRefused(name, len(runs))
        details: dict[str, Any] = {"cancelled_runs": len(runs)} if runs else {}
        audit.record("closed", scope=_scope(place), actor=actor, reason=reason, details=details)
        lifecycle.cancel_runs(runs, actor=actor, reason=f"{name} was closed")
    return True


def _scope(place: Model) -> str:
    return f"{place._meta.model_name}:{place.pk}"
