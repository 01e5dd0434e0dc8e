"""What people call an item: as the code of its stage says, else its key."""

from __future__ import annotations

import logging
from typing import Any

from automation.gate import installed_code
from automation.pipeline import BaseStage

logger = logging.getLogger("automation.reports.item_labels")

LONGEST = 120


def label_of(pipeline: str, stage: str, payload: dict[str, Any], key: str) -> str:
    """Return the label of an item that ``stage`` takes or has made; ``key`` if the stage has none for it."""
    found = installed_code.find(pipeline, stage)
    try:
        label = str((found[1] if found is not None else BaseStage).label(payload))
    except Exception as error:
        logger.warning("label() of stage %s failed: %s: %s", stage, type(error).__name__, error)
        label = ""
    return label[:LONGEST] if label.strip() else key
