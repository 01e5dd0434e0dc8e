"""The pages of ``docs/reference`` that are written from the code: settings, commands, events, metrics, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from automation.runs import diagram
from backend.reference import commands, errors, events, metrics, settings
from pause_manager.pause_queue import diagram as queue_diagram

DIRECTORY = Path(__file__).resolve().parents[2] / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings.page,
    "cli.md": commands.page,
    "events.md": events.page,
    "metrics.md": metrics.page,
    "errors.md": errors.page,
    "state_machine.md": diagram.page,
    "pause_queue_states.md": queue_diagram.page,
}
"""Each page by its file name. ``manage.py write_reference`` writes them, and a test compares them."""


def write(directory: Path = DIRECTORY) -> list[Path]:
    """Write every page into ``directory``; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page())
    return [directory / name for name in PAGES]
