"""The pause queue as the API shows it."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from pause_manager.models import PauseQueueEntry

IN_ORDER = ("priority", "paused_at", "id")
"""The order in which entries are resumed, ageing aside."""


class EntrySerializer(serializers.ModelSerializer[PauseQueueEntry]):
    """A dispatch that waits for capacity."""

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
            "paused_at",
            "resume_after",
            "attempts",
        ]


def shown(entries: list[PauseQueueEntry]) -> list[dict[str, Any]]:
    """What a page of entries shows."""
    return list(EntrySerializer(entries, many=True).data)
