"""Named queries of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Exists, OuterRef

if TYPE_CHECKING:
    from automation.models import AutomationRun, Site, StageRun, WorkSlice  # noqa: F401  (named in texts below)


class SiteQuerySet(models.QuerySet["Site"]):
    def visible_to(self, user: Any) -> SiteQuerySet:
        """Sites of the accounts ``user`` belongs to; all of them for a superuser."""
        return self if user.is_superuser else self.filter(account__members=user)

    def taking_runs(self) -> SiteQuerySet:
        """Sites that are not closed, nor their accounts."""
        return self.filter(closed_at__isnull=True, account__closed_at__isnull=True)


def accounts_of(user: Any) -> list[int]:
    """The ids of the accounts ``user`` belongs to. One query.

    Told to the statements that list what they have: of a join the planner cannot tell how much an account has.
    """
    from automation.models import Membership

    memberships = Membership.objects.filter(user_id=user.pk or 0).order_by("account_id")
    return list(memberships.values_list("account_id", flat=True))


class RunQuerySet(models.QuerySet["AutomationRun"]):
    def visible_to(self, user: Any) -> RunQuerySet:
        """Runs of the accounts ``user`` belongs to, one query for these; all of them for a superuser."""
        return self.present() if user.is_superuser else self.present().filter(account__in=accounts_of(user))

    def present(self) -> RunQuerySet:
        """Runs that are not deleted."""
        return self.filter(deleted_at__isnull=True)

    def unfinished(self) -> RunQuerySet:
        return self.filter(finished_at__isnull=True)

    def with_leases(self) -> RunQuerySet:
        """Annotate ``is_leased``: whether any slice is held by a worker, which ``status.of`` needs."""
        from automation.models import WorkSlice

        return self.annotate(is_leased=Exists(WorkSlice.objects.leased().filter(stage_run__run=OuterRef("pk"))))


class StageRunQuerySet(models.QuerySet["StageRun"]):
    def undefined(self) -> StageRunQuerySet:
        """Stages of runs that an earlier release created, of which this one has not said yet what they are."""
        return self.filter(definition__isnull=True, position__gte=0)

    def current(self) -> StageRunQuerySet:
        """Those at work, the first of a run that has not started, and those that are undefined."""
        has_not_started = models.Q(run__lifecycle="pending", position=0)
        is_undefined = models.Q(definition__isnull=True, position__gte=0)
        return self.filter(models.Q(lifecycle="running") | has_not_started | is_undefined).order_by("run", "position")


class SliceQuerySet(models.QuerySet["WorkSlice"]):
    def open(self) -> SliceQuerySet:
        """Slices with work left."""
        return self.filter(finished_at__isnull=True)

    def leased(self) -> SliceQuerySet:
        """Slices held by a worker, live or lost: a lease ends when it is given back or reaped, not when it runs out."""
        return self.filter(finished_at__isnull=True, lease_token__isnull=False)
