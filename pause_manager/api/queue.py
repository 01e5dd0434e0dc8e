"""The pause queue as the API shows it."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from pause_manager.api.pagination import PageQuery
from pause_manager.models import PauseQueueEntry

IN_ORDER = ("priority", "paused_at", "id")
"""The order in which entries are resumed, ageing aside."""


class EntryQuery(PageQuery):
    """Filters of the pause queue."""

    kept_by = serializers.ChoiceField(
        choices=PauseQueueEntry.KeptBy.values,
        required=False,
        help_text="`capacity`: waits for room; `hold`: waits only for the end of a hold.",
    )


class EntrySerializer(serializers.ModelSerializer[PauseQueueEntry]):
    """A dispatch that waits for capacity, or for the end of a hold: see ``kept_by``."""

    needs = serializers.DictField(child=serializers.FloatField())

    class Meta:
        model = PauseQueueEntry
        fields: ClassVar = [
            "id",
            "ref",
            "task_name",
            "queue",
            "priority",
            "needs",
            "reason",
            "kept_by",
            "paused_at",
            "resume_after",
            "attempts",
        ]


def shown(entries: list[PauseQueueEntry]) -> list[dict[str, Any]]:
    """What a page of entries shows."""
    return list(EntrySerializer(entries, many=True).data)
