"""Where a finished run left what it made."""

from __future__ import annotations

from pathlib import Path

from django.core.files.storage import FileSystemStorage, default_storage

from automation.models import AutomationRun


def outputs_of(run: AutomationRun) -> list[str]:
    """Names of the pages to open first, and of the folder; full paths when the storage is a file system."""
    folder = f"runs/{run.pk}"
    pages = [
        f"{folder}/{slug}/index.html" for slug in run.stages.filter(position__gte=0).values_list("slug", flat=True)
    ]
    names = [name for name in pages if default_storage.exists(name)]
    if default_storage.exists(folder):
        names.append(folder)
    if not isinstance(default_storage._wrapped if hasattr(default_storage, "_wrapped") else None, FileSystemStorage):
        return names
    return [str(Path(default_storage.path(name))) for name in names]
