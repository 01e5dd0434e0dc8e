"""Accounts, their members, sites and agents."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

AGENT_NAME = RegexValidator(r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Expected letters, digits, dots, - and _.")


class Account(models.Model):
    """A customer; its members see all of its sites."""

    name = models.CharField(max_length=100, unique=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="accounts")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="since then its sites take no runs; written by closing"
    )

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's membership in an account. Django's permissions say what the user may do there."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["account", "user"], name="one_membership")]

    def __str__(self) -> str:
        return f"{self.user} in {self.account}"


def accounts_of(user: Any) -> list[int]:
    """The ids of the accounts ``user`` belongs to. One query.

    Passed to statements that list their runs: through a join the planner cannot estimate the size of an account.
    """
    memberships = Membership.objects.filter(user_id=user.pk or 0).order_by("account_id")
    return list(memberships.values_list("account_id", flat=True))


class SiteQuerySet(models.QuerySet["Site"]):
    def visible_to(self, user: Any) -> SiteQuerySet:
        """Sites of the accounts ``user`` belongs to; all of them for a superuser."""
        return self if user.is_superuser else self.filter(account__members=user)

    def taking_runs(self) -> SiteQuerySet:
        """Sites that are not closed, nor their accounts."""
        return self.filter(closed_at__isnull=True, account__closed_at__isnull=True)


class Site(models.Model):
    """A site that runs are made for; also their default lane."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="sites")
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="since then it takes no runs; written by closing"
    )
    retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Runs that ended so long ago are deleted. Empty: as the pipeline says.",
    )

    objects = SiteQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class Agent(models.Model):
    """A program that leases slices over HTTP, on a machine without a broker. Written by ``agents``.

    It may take work of these pipelines for the sites of its account (or for the one site), and do nothing else.
    """

    name = models.CharField(max_length=63, unique=True, validators=[AGENT_NAME])
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="agents")
    site = models.ForeignKey(
        Site, on_delete=models.CASCADE, null=True, blank=True, related_name="agents", help_text="Empty: every site."
    )
    pipelines = ArrayField(models.CharField(max_length=50), help_text="Whose work it may take.")
    node = models.CharField(max_length=200, help_text="Its machine, for holds on node:x and for capacity.")
    is_enabled = models.BooleanField(default=True)
    token_hash = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    acknowledged_version = models.PositiveBigIntegerField(
        default=0, db_default=0, editable=False, help_text="of the fleet switch: the last one that it was told"
    )
    acknowledged_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """The site is one of the account's."""
        if self.site is not None and self.site.account_id != self.account_id:
            raise ValidationError({"site": f"Expected a site of {self.account}, got: {self.site}."})
