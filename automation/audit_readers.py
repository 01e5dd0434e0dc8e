"""Members read the events of runs of their accounts; the rest of the audit trail is for those who may read all."""

from __future__ import annotations

from typing import Any

from django.db.models import TextField, Value
from django.db.models.functions import Cast, Concat

from automation.models import AutomationRun
from pause_manager import audit_readers
from pause_manager.models import ControlEvent
from pause_manager.querysets import ControlEventQuerySet

VIEW = "automation.view_automationrun"


@audit_readers.register
def _of_their_runs(user: Any) -> ControlEventQuerySet | None:
    if not user.has_perm(VIEW):
        return None
    scope = Concat(Value("run:"), Cast("pk", TextField()), output_field=TextField())
    theirs = AutomationRun.objects.visible_to(user).order_by().values_list(scope)
    found: ControlEventQuerySet = ControlEvent.objects.filter(scope__in=theirs)
    return found
