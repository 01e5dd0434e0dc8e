"""Times and lengths of time as every command writes them."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

KEEPS_PLACE_SECONDS = 30
"""Work whose worker was lost keeps its admission on its node for so long: what it needs stays free for it there."""

FORMAT = "%Y-%m-%d %H:%M:%S %Z"


def written(moment: datetime | str) -> str:
    """``2026-11-28 22:14:59 UTC``, in the zone of the settings; a text is in ISO 8601."""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return timezone.localtime(at).strftime(FORMAT)


def length(seconds: float | None) -> str:
    """``7 s``, ``3 min 07 s``, ``2 h 05 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds or 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3_600:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"
