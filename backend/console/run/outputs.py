"""The rows of the outputs table: a title, a few plain values, and links to the files that an output names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from django.urls import reverse

from automation.files import reading
from automation.reports.item_labels import label_of

FILE_FIELDS = ("file", "markdown", "html", "article", "image")
RESULTS = ("index.html", "results.csv")
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
SHORT = 160
MOST_VALUES = 4


@dataclass(frozen=True)
class Output:
    """One row of the outputs table."""

    key: str
    title: str
    values: list[tuple[str, str]]
    links: list[tuple[str, str]]
    image: str

    @classmethod
    def of(cls, run_id: UUID, pipeline: str, stage: str, key: str, payload: dict[str, Any]) -> Output:
        links = [
            (name, reverse("console:file", args=[run_id, inside]))
            for name in FILE_FIELDS
            if (inside := inside_run(run_id, payload.get(name))) is not None
        ]
        title = label_of(pipeline, stage, payload, key)
        named = {name for name, _ in links}
        values = [
            (name.replace("_", " "), _short(value))
            for name, value in payload.items()
            if name not in named and isinstance(value, str | int | float) and str(value) != title
        ]
        image = next((url for _, url in links if url.lower().endswith(IMAGES)), "")
        return cls(key, title, values[:MOST_VALUES], links, image)


def results_of(run_id: UUID, stage_slug: str) -> list[tuple[str, str]]:
    """Return names and URLs of the result files that the stage's ``finish`` has written over all outputs."""
    written = reading.existing(run_id, stage_slug, RESULTS)
    return [
        (name, reverse("console:file", args=[run_id, f"{stage_slug}/{name}"])) for name in RESULTS if name in written
    ]


def inside_run(run_id: UUID, value: object) -> str | None:
    """Return ``value`` as a path in the run's folder of the storage; ``None`` if it does not look like one."""
    if not isinstance(value, str) or not value or "\n" in value or len(value) > 300:
        return None
    name = value.removeprefix(f"runs/{run_id}/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or not path.suffix:
        return None
    return name


def _short(value: str | int | float) -> str:
    text = str(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1].rstrip()}…"
