"""Figures that apps add to the card of a run: register a function in ``AppConfig.ready``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from automation.models import AutomationRun

logger = logging.getLogger("automation.reports.run_figures")

Figures = Callable[[AutomationRun], Sequence[tuple[str, str]]]
"""(label, text) of each figure; a constant number of queries."""

_registered: list[Figures] = []


def register(figures: Figures) -> Figures:
    """Add ``figures`` to the card of every run."""
    _registered.append(figures)
    return figures


def of_run(run: AutomationRun) -> list[tuple[str, str]]:
    """Every figure of ``run``; one that cannot be read is logged and left out."""
    found: list[tuple[str, str]] = []
    for figures in _registered:
        try:
            found += figures(run)
        except Exception:
            logger.exception("A figure of run %s cannot be read.", run.pk)
    return found
