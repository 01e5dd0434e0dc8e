"""Prepares a first start: a migrated database, an operator, an account with a site, and credentials for scripts."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import transaction
from rest_framework.authtoken.models import Token

from automation.models import Account, Membership, Site
from backend import roles
from pause_manager.actor import Actor
from pause_manager.nodes import watching

OPERATOR = "operator"
DEFAULT_ACCOUNT = "Default"
DEFAULT_SITE = "default"


@dataclass(frozen=True)
class Credentials:
    """Access for scripts on this machine; ``password`` is empty when only the operator knows it."""

    url: str
    username: str
    password: str
    token: str


def prepare(
    path: Path, url: str, *, may_reset_password: bool, site: str = DEFAULT_SITE, say: Callable[[str], object] = print
) -> tuple[Credentials, bool]:
    """Migrate, create what is missing and write ``path`` (mode 0600); also returns whether the password is new.

    ``say`` is called with one sentence per correction.

    A lost password (its file is gone) is replaced only if ``may_reset_password``: in an embedded database, never in
    one that is shared.
    """
    call_command("migrate", verbosity=0, interactive=False)
    with transaction.atomic():
        user, created = User.objects.get_or_create(username=OPERATOR, defaults={"is_staff": True, "is_superuser": True})
        password = "" if created else _known_password(path)
        fresh = created or (not password and may_reset_password)
        if fresh:
            password = secrets.token_urlsafe(12)
            user.set_password(password)
            user.save(update_fields=["password"])
        token, _ = Token.objects.get_or_create(user=user)
        corrected = list(roles.prepare())
        user.groups.add(Group.objects.get(name=roles.OPERATORS))
        _join_default_account(user, site)
    if settings.WATCH_CAPACITY is not None:
        watching.set_watched(settings.WATCH_CAPACITY, actor=Actor.shell(), reason="WATCH_CAPACITY")
    for sentence in corrected:
        say(sentence)
    credentials = Credentials(url, OPERATOR, password, token.key)
    _write_private(path, json.dumps(asdict(credentials), indent=2) + "\n")
    return credentials, fresh


def _join_default_account(user: User, site: str) -> None:
    account, _ = Account.objects.get_or_create(name=DEFAULT_ACCOUNT)
    Membership.objects.get_or_create(account=account, user=user)
    for slug in {DEFAULT_SITE, site}:
        Site.objects.get_or_create(slug=slug, defaults={"account": account, "name": slug.capitalize()})


def _known_password(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["password"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)
