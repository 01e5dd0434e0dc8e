"""The tasks of another app."""

import time

from celery import shared_task


@shared_task
def tell(sentence: str) -> str:
    """Write to a customer."""
    time.sleep(0.1)
    return sentence


@shared_task
def summarise(sentences: list[str]) -> int:
    """Count what was told; the end of a chord."""
    return len(sentences)
