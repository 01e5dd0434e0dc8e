"""Times on a command line: ``2026-11-24``, ``2026-11-24T13:00Z``; without a zone they are in that of the settings."""

from __future__ import annotations

import argparse
from datetime import datetime

from django.utils import timezone


def moment(text: str) -> datetime:
    """The time that ``text`` says, for ``argparse``."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-24T13:00, got: {text}") from None
    return timezone.make_aware(found) if timezone.is_naive(found) else found
