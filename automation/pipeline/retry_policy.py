"""What a stage declares about further tries at an item."""

from __future__ import annotations

import random

from automation.pipeline.stage import AnyStage

MAX_BACKOFF = 60.0


def is_tried_again(stage: AnyStage | type[AnyStage], error: BaseException) -> bool:
    """Whether ``stage`` allows another try after ``error``."""
    return isinstance(error, stage.retry_for) and not isinstance(error, stage.no_retry_for)


def backoff(stage: AnyStage, number: int) -> float:
    """Seconds between attempt ``number`` and the next, drawn from about what the stage declares."""
    seconds: float = min(stage.retry_backoff * 2 ** min(number - 1, 32), MAX_BACKOFF)
    return seconds * random.uniform(1 - stage.retry_jitter, 1 + stage.retry_jitter)
