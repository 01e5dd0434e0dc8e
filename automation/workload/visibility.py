"""What users see of the work of accounts: members see that of theirs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import BigIntegerField, Func, Q, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Concat

from automation.models import Agent, AutomationRun, Site
from automation.models.accounts import accounts_of
from automation.models.tables import RUN, SCHEDULE, SITE
from pause_manager.models import ControlEvent, ControlEventQuerySet, PauseQueueEntry, PauseQueueQuerySet
from pause_manager.scopes import RUNS

VIEW, OPERATE = "automation.view_automationrun", "automation.operate_automationrun"


def events(user: Any) -> ControlEventQuerySet | None:
    """The events of runs of their accounts."""
    if not user.has_perm(VIEW):
        return None
    found: ControlEventQuerySet = ControlEvent.objects.filter(tenant__in=accounts_of(user))
    return found


def entries(user: Any) -> PauseQueueQuerySet | None:
    """The entries of runs of their accounts."""
    name = Concat(Value(RUNS), Cast("pk", TextField()), output_field=TextField())
    found: PauseQueueQuerySet = PauseQueueEntry.objects.filter(
        ref__in=AutomationRun.objects.unfinished().visible_to(user).values_list(name),
        message__isnull=True,  # as of every run; what waits so has an index without the messages
    )
    return found


def lanes_of_other_accounts(user: Any) -> Q:
    """Lanes, which sites give their names, of accounts that ``user`` does not belong to."""
    if not user.is_authenticated:
        return Q(scope__startswith="lane:")
    if user.is_superuser:
        return Q(pk__in=[])
    slugs = Site.objects.filter(account__in=accounts_of(user)).values_list("slug", flat=True)
    return Q(scope__startswith="lane:") & ~Q(scope__in=[f"lane:{slug}" for slug in slugs])


def agents(user: Any) -> set[str]:
    """The agents of their accounts, by name."""
    if not user.is_authenticated:
        return set()
    names = Agent.objects.filter(account__in=accounts_of(user)).values_list("name", flat=True)
    return {f"agent:{name}" for name in names}


_OF_SCHEDULE = f"""
    (SELECT site.account_id FROM {SCHEDULE} AS schedule JOIN {SITE} AS site ON site.id = schedule.site_id
      WHERE schedule.id = %(expressions)s)
"""


def account_of(scope: str) -> Combinable | None:
    """The account of a run or schedule, read by the statement that writes the event."""
    subject, _, name = scope.partition(":")
    if subject == "schedule" and name.isascii() and name.isdecimal():
        return Func(Value(int(name)), template=_OF_SCHEDULE, output_field=BigIntegerField())
    if subject != "run":
        return None
    try:
        run_id = UUID(name)
    except ValueError:
        return None
    account = f"(SELECT account_id FROM {RUN} WHERE id = %(expressions)s)"
    return Func(Value(run_id), template=account, output_field=BigIntegerField())
