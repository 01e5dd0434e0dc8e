"""The system's Celery app in a worker whose processes are spawned, not forked."""

import billiard

from backend.celery import app as celery

billiard.set_start_method("spawn", force=True)

__all__ = ["celery"]
