"""Times on a command line: ``2026-11-24``, ``2026-11-24T13:00Z``, or how long ago: ``24h``, ``2d``.

Without a zone they are in that of the settings.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from django.utils import timezone

from pause_manager.management.shell import UNITS, period


def moment(text: str) -> datetime:
    """The time that ``text`` says, for ``argparse``."""
    if text[-1:] in UNITS and text[:-1].isdecimal():
        return timezone.now() - period(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        rule = "expected a time such as 2026-11-24T13:00, or how long ago, such as 24h or 2d"
        raise argparse.ArgumentTypeError(f"{rule}, got: {text}") from None
    return timezone.make_aware(found) if timezone.is_naive(found) else found
