"""Where a finished run left what it made."""

from __future__ import annotations

from django.core.files.storage import default_storage

from automation.files import names, reading
from automation.models import AutomationRun

PAGE = "index.html"


def outputs_of(run: AutomationRun) -> list[str]:
    """Names of the pages to open first, and of the folder; full paths when the storage is a directory."""
    folder = names.folder(run.pk)
    slugs = run.stages.filter(position__gte=0).order_by("position").values_list("slug", flat=True)
    found = [f"{folder}/{slug}/{PAGE}" for slug in slugs if reading.existing(run.pk, slug, [PAGE])]
    if found or reading.has_any(run.pk):
        found.append(folder)
    return [_full_path(name) for name in found]


def _full_path(name: str) -> str:
    try:
        return str(default_storage.path(name))
    except NotImplementedError:  # a storage that is not a directory: manage.py copy_files makes one
        return name
