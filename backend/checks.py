"""System checks across apps: what no single app can check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import Error as DatabaseError

from automation.gate import file_sharing


@register(Tags.files)
def check_storage_url(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a ``STORAGE_URL`` that cannot be used."""
    if not settings.STORAGE_PROBLEM:
        return []
    hint = "Without it, files are stored in the directory media of DATA_DIR. See docs/howto/storage.md."
    return [Error(f"{settings.STORAGE_PROBLEM}.", hint=hint, id="backend.E001")]


@register(Tags.database)
def check_files_are_shared(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report live workers that do not store files in one place; runs with ``manage.py check --database default``."""
    if not databases or "default" not in databases:
        return []
    try:
        found = file_sharing.difference(file_sharing.told())
    except DatabaseError:
        return []  # Not migrated yet, or unavailable: other checks report that.
    if found is None:
        return []
    return [
        Warning(
            f"The live workers do not share files, so runs that use files wait: {found}.",
            hint=f"This ends when {file_sharing.LIFTED_BY}.",
            id="backend.W001",
        )
    ]
