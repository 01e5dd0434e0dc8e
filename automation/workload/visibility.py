"""Members read the events of runs of their accounts; the rest of the audit trail is for those who may read all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import BigIntegerField, Func, Q, Value
from django.db.models.expressions import Combinable

from automation.leases.claims import RUN
from automation.models import Agent, Site
from automation.models._querysets import accounts_of
from pause_manager import workloads_audit_readers, workloads_tenants
from pause_manager.models import ControlEvent
from pause_manager.models._querysets import ControlEventQuerySet

VIEW = "automation.view_automationrun"


@workloads_audit_readers.register
def _of_their_runs(user: Any) -> ControlEventQuerySet | None:
    if not user.has_perm(VIEW):
        return None
    found: ControlEventQuerySet = ControlEvent.objects.filter(tenant__in=accounts_of(user))
    return found


@workloads_tenants.register_hider
def _lanes_of_other_accounts(user: Any) -> Q:
    """Lanes, which sites give their names, of accounts that ``user`` does not belong to."""
    if not user.is_authenticated:
        return Q(scope__startswith="lane:")
    if user.is_superuser:
        return Q(pk__in=[])
    slugs = Site.objects.filter(account__in=accounts_of(user)).values_list("slug", flat=True)
    return Q(scope__startswith="lane:") & ~Q(scope__in=[f"lane:{slug}" for slug in slugs])


@workloads_tenants.register_knower
def _agents_of_their_accounts(user: Any) -> set[str]:
    if not user.is_authenticated:
        return set()
    names = Agent.objects.filter(account__in=accounts_of(user)).values_list("name", flat=True)
    return {f"agent:{name}" for name in names}


@workloads_tenants.register
def _account_of(scope: str) -> Combinable | None:
    """The account of a run, read by the statement that writes the event."""
    subject, _, name = scope.partition(":")
    if subject != "run":
        return None
    try:
        run_id = UUID(name)
    except ValueError:
        return None
    account = f"(SELECT account_id FROM {RUN} WHERE id = %(expressions)s)"
    return Func(Value(run_id), template=account, output_field=BigIntegerField())
