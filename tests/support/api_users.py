"""Callers of the API: users with permissions in accounts, and their clients."""

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from automation.models import Membership, Site

AUTOMATION = "/api/v1/automation/"
RUNS = f"{AUTOMATION}runs/"
JOBS = "/api/queue/jobs/"
VIEW, OPERATE, PAYLOADS = "view_automationrun", "operate_automationrun", "view_payloads"


def make_user(name: str, site: Site | None, *permissions: str) -> User:
    """A user with these permissions who belongs to the account of ``site``, and sees payloads if they see runs."""
    user = User.objects.create_user(name, password=f"secret-of-{name}")
    permissions += (PAYLOADS,) if VIEW in permissions else ()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    if site is not None:
        Membership.objects.create(account=site.account, user=user)
    return user


def client_of(user: User | None) -> APIClient:
    """A client that sends JSON and is signed in as ``user``."""
    client = APIClient()
    client.default_format = "json"
    client.force_authenticate(user)
    return client
