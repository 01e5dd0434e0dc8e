"""Who looks at runs: all who see the same runs, with the same permissions, share each render of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from automation.models import AutomationRun, Site
from automation.models.accounts import accounts_of
from automation.models.runs import RunQuerySet
from automation.reports import payload_access
from backend.console.access import OPERATE
from pause_manager.console.viewer import Viewer


@dataclass(frozen=True)
class Audience(Viewer):
    """A viewer by the accounts whose runs they see; ``None`` is all."""

    accounts: tuple[int, ...] | None = ()

    @classmethod
    def of(cls, user: Any, *, is_shared: bool = True, is_now: bool = False) -> Audience:
        """The audience that ``user`` belongs to. At most one query besides those for permissions."""
        alike = Viewer.of(user, is_shared=True)
        accounts = None if user.is_superuser else tuple(accounts_of(user))
        return cls(None, alike.permissions, alike.is_superuser, accounts=accounts)

    def runs(self) -> RunQuerySet:
        """The runs that they see."""
        found: RunQuerySet = AutomationRun.objects.present()
        return found if self.accounts is None else found.filter(account__in=self.accounts)

    def sites(self) -> QuerySet[Site]:
        """The sites that they see."""
        return Site.objects.all() if self.accounts is None else Site.objects.filter(account__in=self.accounts)

    @property
    def may_operate(self) -> bool:
        return self.has_perm(OPERATE)

    @property
    def may_see_payloads(self) -> bool:
        return self.has_perm(payload_access.VIEW)
