"""Members read the events of runs of their accounts; the rest of the audit trail is for those who may read all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import BigIntegerField, Func, Value
from django.db.models.expressions import Combinable

from automation.leases import RUN
from automation.querysets import accounts_of
from pause_manager import audit_readers, tenants
from pause_manager.models import ControlEvent
from pause_manager.querysets import ControlEventQuerySet

VIEW = "automation.view_automationrun"


@audit_readers.register
def _of_their_runs(user: Any) -> ControlEventQuerySet | None:
    if not user.has_perm(VIEW):
        return None
    found: ControlEventQuerySet = ControlEvent.objects.filter(tenant__in=accounts_of(user))
    return found


@tenants.register
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
