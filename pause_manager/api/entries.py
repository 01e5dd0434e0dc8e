"""Entries of the pause queue as the API shows them and takes their changes."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from pause_manager.api.http.pagination import PageQuery
from pause_manager.api.http.strict import ReasonSerializer
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import outlook

IN_ORDER = ("priority", "paused_at", "id")
"""The order in which entries are resumed, ageing aside."""


class EntryQuery(PageQuery):
    """Filters of the pause queue."""

    waits_for = serializers.ChoiceField(
        choices=PauseQueueEntry.WaitsFor.values,
        required=False,
        help_text="`capacity`: waits for room; `hold`: waits only for the end of a hold; `answer`: its task has "
        "failed, and a person is asked.",
    )
    problem = serializers.ChoiceField(
        choices=PauseQueueEntry.Problem.values,
        required=False,
        help_text="Only what nobody takes up for this reason, also while it is on its way once more.",
    )


class EntrySerializer(serializers.ModelSerializer[PauseQueueEntry]):
    """An entry of the pause queue, which waits for capacity or for the end of a hold: see ``waits_for``."""

    needs = serializers.DictField(child=serializers.FloatField())
    waits_now = serializers.SerializerMethodField(
        help_text="Why it waits for capacity, as of the last poll; null if it does not, or if no poll has seen it yet."
    )

    error = serializers.SerializerMethodField(
        help_text="The error of its task after all retries; null if it has not failed."
    )

    def get_error(self, entry: PauseQueueEntry) -> str | None:
        return None if entry.failure is None else str(entry.failure.get("error", ""))

    def get_waits_now(self, entry: PauseQueueEntry) -> str | None:
        now = self.context.get("outlooks", {}).get(entry.pk)
        return None if now is None else now.sentence

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
            "waits_now",
            "waits_for",
            "error",
            "paused_at",
            "resume_after",
            "attempts",
            "problem",
            "expires_at",
        ]


class RenameSerializer(ReasonSerializer):
    """The name of a task in waiting messages, and the name that replaces it."""

    old = serializers.CharField(max_length=1_000, help_text="Name of the task that the messages name.")
    new = serializers.CharField(max_length=1_000, help_text="Name of the task that they are to run.")
    queue = serializers.CharField(max_length=1_000, required=False, default="", help_text="Only those of this queue.")


class DecisionSerializer(ReasonSerializer):
    """What becomes of a task that has failed."""

    answer = serializers.ChoiceField(
        choices=PauseQueueEntry.Answer.values,
        help_text="`retry`: run it again, with all its retries; `skip`: drop it; `fail`: let it fail with its error.",
    )


class RerouteSerializer(ReasonSerializer):
    """The queue that the message is to go to."""

    queue = serializers.CharField(max_length=1_000, help_text="Name of the queue that it is to go to.")


class ChangedSerializer(serializers.Serializer[Any]):
    """The entries that were changed."""

    entries = serializers.ListField(child=serializers.IntegerField())


def shown(entries: list[PauseQueueEntry]) -> list[dict[str, Any]]:
    """Return what a page of entries shows."""
    return list(EntrySerializer(entries, many=True, context={"outlooks": outlook.of(entries)}).data)
