"""The bodies of ``/api/system/worker-pause``."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from pause_manager.api.http.schema import ErrorSerializer
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.fleet.report import MOST_EVENTS
from pause_manager.models import Hold
from pause_manager.workloads import MEMBER_KINDS

MODES = Hold.Mode.choices
LONGEST_TEXT = 500
LONGEST_DEADLINE = 30 * 24 * 3600


class SnapshotQuery(StrictSerializer):
    """How much of the audit trail is shown."""

    latest = serializers.IntegerField(
        default=5, min_value=1, max_value=MOST_EVENTS, help_text="Changes shown, newest first."
    )


class WorkerPauseSerializer(StrictSerializer):
    """A command to the fleet switch."""

    action = serializers.ChoiceField(choices=["pause", "resume"])
    mode = serializers.ChoiceField(
        choices=MODES, required=False, allow_null=True, help_text="Required for `pause`, of no effect for `resume`."
    )
    reason = serializers.CharField(max_length=LONGEST_TEXT, help_text="Why; kept in the audit trail.")
    forceResume = serializers.BooleanField(  # noqa: N815
        default=False, help_text="Resume although something is still running."
    )
    confirmation = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=LONGEST_TEXT,
        help_text="What the operator has confirmed, in words; required for `pause` and for a forced resume, and kept.",
    )
    deadlineSeconds = serializers.IntegerField(  # noqa: N815
        required=False,
        allow_null=True,
        min_value=1,
        max_value=LONGEST_DEADLINE,
        help_text="With `drain`: the number of seconds after which it becomes a quiesce.",
    )
    idempotencyKey = serializers.CharField(  # noqa: N815
        required=False, max_length=200, help_text="As the header `Idempotency-Key`."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        is_pause = attrs["action"] == "pause"
        if is_pause and not attrs.get("mode"):
            raise serializers.ValidationError({"mode": "expected drain or quiesce for a pause, got none."})
        if not attrs["confirmation"].strip() and (is_pause or attrs["forceResume"]):
            what = "a pause" if is_pause else "a forced resume"
            raise serializers.ValidationError({"confirmation": f"expected a text that confirms {what}, got none."})
        return attrs


class SystemSerializer(serializers.Serializer[Any]):
    """The state of the switch; every answer about the fleet carries it."""

    workersPaused = serializers.BooleanField()  # noqa: N815
    mode = serializers.ChoiceField(choices=MODES, allow_null=True)
    reason = serializers.CharField(allow_null=True, help_text="Reason of the last change.")
    version = serializers.IntegerField(help_text="Version of the switch; it rises by one with each accepted change.")
    requestedByUserId = serializers.CharField(allow_null=True)  # noqa: N815
    requestedAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    updatedAt = serializers.DateTimeField(allow_null=True)  # noqa: N815


class BlockerSerializer(serializers.Serializer[Any]):
    """Work that is in progress."""

    run = serializers.CharField()
    stage = serializers.CharField()
    item = serializers.CharField(help_text="The item after the last one that is committed.")
    worker = serializers.CharField()
    node = serializers.CharField()
    since = serializers.DateTimeField()
    estimatedEnd = serializers.DateTimeField(  # noqa: N815
        allow_null=True, help_text="When the work should end, by its own rate; null while that is unknown."
    )
    isStale = serializers.BooleanField(help_text="Its worker is lost.")  # noqa: N815


class WorkCountsSerializer(serializers.Serializer[Any]):
    """How much work there is; null where it cannot be read."""

    status = serializers.CharField(help_text="`available`, or `unavailable` if it cannot be read.")
    queued = serializers.IntegerField(allow_null=True, help_text="Pieces of work that are due.")
    running = serializers.IntegerField(allow_null=True, help_text="Leases in force and tasks that run.")
    staleRunning = serializers.IntegerField(allow_null=True, help_text="Leases of lost workers.")  # noqa: N815
    unreported = serializers.IntegerField(
        allow_null=True, help_text="Live workers that have not said yet what they have in hand under this pause."
    )
    isDrained = serializers.BooleanField(  # noqa: N815
        help_text="Whether nothing is running. Queued work does not count; work that cannot be read counts as running."
    )


class FleetMetricsSerializer(WorkCountsSerializer):
    """How much work is queued and in progress, with the oldest work first."""

    blockers = BlockerSerializer(
        many=True, allow_null=True, help_text="At most 50; null for callers who are not operators of the fleet."
    )


class LaggingSerializer(serializers.Serializer[Any]):
    """A worker or agent that has not acknowledged the version, or is silent."""

    kind = serializers.ChoiceField(choices=MEMBER_KINDS, help_text="A Celery worker, or a remote agent.")
    name = serializers.CharField()
    node = serializers.CharField()
    acknowledgedVersion = serializers.IntegerField()  # noqa: N815
    lastSeenAt = serializers.DateTimeField()  # noqa: N815
    silentSeconds = serializers.FloatField()  # noqa: N815


class ObeyingSerializer(serializers.Serializer[Any]):
    """How many workers or agents there are, and how many of them obey this version."""

    total = serializers.IntegerField()
    acknowledged = serializers.IntegerField()
    lost = serializers.IntegerField(
        help_text="Number that have been silent for two beats, so that it is unknown what they obey."
    )


class ByKindSerializer(serializers.Serializer[Any]):
    """Workers and agents apart."""

    worker = ObeyingSerializer()
    agent = ObeyingSerializer()


class WorkersSerializer(serializers.Serializer[Any]):
    """The live workers and agents, and how many of them obey this version."""

    total = serializers.IntegerField()
    acknowledged = serializers.IntegerField()
    lagging = LaggingSerializer(many=True, help_text="Workers and agents that do not obey this version yet.")
    lost = LaggingSerializer(
        many=True, help_text="Number that have been silent for two beats, so that it is unknown what they obey."
    )
    byKind = ByKindSerializer()  # noqa: N815


class CommandSerializer(serializers.Serializer[Any]):
    """What can be done now, or why it cannot."""

    name = serializers.ChoiceField(choices=["pause", "resume", "forceResume"])
    available = serializers.BooleanField()
    unavailableReason = serializers.CharField(allow_null=True)  # noqa: N815
    impact = serializers.CharField()
    rollbackAction = serializers.CharField()  # noqa: N815
    needsConfirmation = serializers.BooleanField()  # noqa: N815


class ChangeSerializer(serializers.Serializer[Any]):
    """An accepted change."""

    id = serializers.IntegerField()
    action = serializers.ChoiceField(choices=["pause", "resume"])
    mode = serializers.ChoiceField(choices=MODES, allow_null=True, help_text="For a resume, the mode that ended.")
    reason = serializers.CharField()
    actor = serializers.CharField()
    channel = serializers.CharField()
    requestId = serializers.CharField(allow_null=True)  # noqa: N815
    version = serializers.IntegerField(allow_null=True)
    forced = serializers.BooleanField()
    createdAt = serializers.DateTimeField()  # noqa: N815


class AuditSerializer(serializers.Serializer[Any]):
    """The last accepted changes, newest first."""

    latest = ChangeSerializer(many=True)


class SnapshotSerializer(serializers.Serializer[Any]):
    """All that an operator of the fleet sees."""

    system = SystemSerializer()
    deadline = serializers.DateTimeField(allow_null=True, help_text="When the drain becomes a quiesce.")
    metrics = FleetMetricsSerializer()
    workers = WorkersSerializer()
    warnings = serializers.ListField(child=serializers.CharField())
    commands = CommandSerializer(many=True)
    audit = AuditSerializer()


class RefusedSerializer(ErrorSerializer):
    """The command does not apply to the switch in its current state. Nothing was changed."""

    system = SystemSerializer(required=False)
    metrics = WorkCountsSerializer(required=False)
