"""Where a finished run left what it made."""

from __future__ import annotations

from django.core.files.storage import default_storage

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
    return [_full_path(name) for name in names]


def _full_path(name: str) -> str:
    try:
        return str(default_storage.path(name))
    except NotImplementedError:  # a storage that is no file system
        return name
