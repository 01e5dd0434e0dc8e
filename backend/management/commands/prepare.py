"""``manage.py prepare``: make a database ready for use, for deployments that do not use ``manage.py up``."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from backend import bootstrap
from backend.settings import own_apps
from pause_manager import database


class Command(BaseCommand):
    """Migrates and creates the operator, the default account and site. Safe to repeat."""

    help = "Apply the migrations and create the operator, the default account and site. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--credentials",
            type=Path,
            default=settings.DATA_DIR / "credentials.json",
            help="file for the operator's token and password (mode 0600); workers do not need to read it",
        )
        parser.add_argument(
            "--url",
            default="http://localhost:8000",
            help="address of the system, for that file (http://localhost:8000)",
        )

    def handle(self, **options: Any) -> None:
        settings.LAYOUT.data_dir.mkdir(parents=True, exist_ok=True)
        own_apps.remember(settings.OWN_APPS, settings.DATA_DIR)
        path = options["credentials"]
        _move_here(path)
        try:
            credentials, fresh = bootstrap.prepare(path, options["url"], may_reset_password=settings.EMBEDDED_POSTGRES)
        except DatabaseError as error:
            if not database.is_away(error):
                raise
            raise CommandError(database.sentence(error)) from error
        if fresh:
            self.stdout.write(f"The password of {credentials.username} is {credentials.password} (shown only once).")


def _move_here(path: Path) -> None:
    """Move the file from where earlier releases put it, readable by every worker."""
    former = settings.DATA_DIR / "credentials.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if former.exists() and former.resolve() != path.resolve():
            if path.exists():
                former.unlink()
            else:
                shutil.move(former, path)
    except OSError as error:
        raise CommandError(
            f"Cannot write the credentials to {path}: {(error.strerror or str(error)).lower()}."
        ) from error
