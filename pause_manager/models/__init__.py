"""Holds and the audit trail. Status columns are written only by the rooms named in each docstring."""

from __future__ import annotations

import re
from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now

from pause_manager.models._querysets import (
    ControlEventQuerySet,
    HoldQuerySet,
    PauseQueueQuerySet,
    RunningTaskQuerySet,
    WorkerNodeQuerySet,
)

from pause_manager.models.fleet import ControlState, FleetWorker  # isort: skip
from pause_manager.models.machine import Machine  # isort: skip

__all__ = [
    "SCOPE",
    "CapacitySample",
    "ControlEvent",
    "ControlState",
    "FleetWorker",
    "Hold",
    "IdempotencyRecord",
    "Machine",
    "PauseQueueEntry",
    "PollState",
    "RunningTask",
    "Tally",
    "WorkerNode",
]

SCOPE = re.compile(r"fleet|(queue|pipeline|lane|run|node):\S{1,100}")


class Hold(models.Model):
    """A row that stops a scope. Work may proceed if and only if no active hold covers it. Written by ``holds``."""

    class Kind(models.TextChoices):
        OPERATOR = "operator", "operator"
        CAPACITY = "capacity", "capacity"
        FREEZE = "freeze", "freeze"
        BUDGET = "budget", "budget"
        NEEDS_INPUT = "needs_input", "needs input"

    class Mode(models.TextChoices):
        DRAIN = "drain", "drain: what is leased finishes, nothing new is leased"
        QUIESCE = "quiesce", "quiesce: stop at the next item"

    class OnExpiry(models.TextChoices):
        RESUME = "resume", "resume"
        CANCEL = "cancel", "cancel"
        KEEP = "keep", "keep and alert"
        QUIESCE = "quiesce", "from then on stop at the next item"

    scope = models.CharField(max_length=120, help_text="fleet, queue:x, pipeline:x, lane:x, run:x or node:x")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    mode = models.CharField(max_length=10, choices=Mode.choices)
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=160)
    idempotency_key = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    on_expiry = models.CharField(max_length=10, choices=OnExpiry.choices, default=OnExpiry.RESUME)
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=160, blank=True)
    release_reason = models.TextField(blank=True)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="when the last of what it stops had stopped")
    went_on_at = models.DateTimeField(null=True, blank=True, help_text="first work after its release")
    revision = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="of the holds that workers obey, when it was last placed or altered"
    )
    stopped = models.PositiveIntegerField(
        default=0, db_default=0, help_text="tasks that workers had in hand when they began to obey it"
    )

    objects = HoldQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["scope", "kind"], condition=Q(released_at__isnull=True), name="one_active_hold"
            ),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True) | ~Q(released_by=""), name="a_release_names_its_actor"
            ),
            models.CheckConstraint(condition=Q(scope__regex=rf"^({SCOPE.pattern})$"), name="hold_scope_is_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(released_at__isnull=True), name="hold_due"),
            models.Index(fields=["scope", "-id"], name="hold_of_scope"),
            models.Index(
                fields=["scope"],
                condition=Q(released_at__isnull=False, went_on_at__isnull=True),
                name="hold_not_gone_on",
            ),
            models.Index(fields=["released_at"], condition=Q(released_at__isnull=False), name="hold_released"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} hold on {self.scope}"


class ControlEvent(models.Model):
    """What was done, by whom, through which door, why, and with which figures. Written by ``audit``.

    Append-only: a trigger refuses UPDATE, DELETE and TRUNCATE. Kept for ever; only ``audit.erase`` takes some away.
    """

    at = models.DateTimeField(db_default=Now(), editable=False)
    action = models.CharField(max_length=40)
    scope = models.CharField(max_length=120)
    actor = models.CharField(max_length=160)
    channel = models.CharField(max_length=20)
    reason = models.TextField(blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    figures = models.JSONField(default=dict, blank=True)
    before = models.JSONField(null=True, blank=True, help_text="what it was; empty where nothing was there before")
    after = models.JSONField(null=True, blank=True, help_text="what it is since; empty where nothing is left")
    tenant = models.BigIntegerField(
        null=True, blank=True, help_text="whose the scope is, as the app says that knows of tenants (see tenants)"
    )

    objects = ControlEventQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["scope", "-id"], name="event_of_scope"),
            # For the audit's own pages, newest first, by any one filter and by time.
            models.Index(fields=["-at", "-id"], name="event_newest"),
            models.Index(fields=["action", "-at", "-id"], name="event_of_action"),
            models.Index(fields=["actor", "-at", "-id"], name="event_of_actor"),
            models.Index(fields=["channel", "-at", "-id"], name="event_of_channel"),
            models.Index(fields=["request_id"], condition=~Q(request_id=""), name="event_of_request"),
            models.Index(fields=["tenant", "-at", "-id"], condition=Q(tenant__isnull=False), name="event_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.scope} by {self.actor}"


class IdempotencyRecord(models.Model):
    """The outcome of a command sent with an ``Idempotency-Key``, told again to a repeat. Written by ``api``."""

    key = models.CharField(max_length=200)
    actor = models.CharField(max_length=160)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status; empty while the first is at work")
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["actor", "key"], name="one_outcome_per_key")]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return f"{self.key} of {self.actor}"


class PauseQueueEntry(models.Model):
    """A dispatch withheld until capacity recovers or a hold ends. Written by ``pause_queue`` and ``kept``.

    What is withheld is a signature, or the whole message of a ``PausableTask``. Sent on, a message names its entry and
    the number of the sending; the worker that takes it up answers the entry, once.
    """

    class Outcome(models.TextChoices):
        SENT = "sent", "sent on"
        DROPPED = "dropped", "dropped: what it was for has ended or goes on by itself, or a person dropped it"
        EXPIRED = "expired", "its time to run was over while it waited"
        REVOKED = "revoked", "revoked while it waited"

    class KeptBy(models.TextChoices):
        CAPACITY = "capacity", "want of room: the poll sends it on when there is some"
        HOLD = "hold", "a hold alone: sent on as soon as none covers it"

    class Problem(models.TextChoices):
        REFUSED = "refused", "the broker refuses the message"
        UNKNOWN_TASK = "unknown_task", "no worker that received it knows the task"
        UNREADABLE = "unreadable", "the worker that received it refuses its content"
        UNCONFIRMED = "unconfirmed", "it was sent several times and no worker took it up"

    ref = models.CharField(max_length=120, help_text="what waits: run:x, or a name of the caller's")
    task_name = models.TextField()
    args = models.JSONField(default=list, blank=True)
    kwargs = models.JSONField(default=dict, blank=True)
    queue = models.TextField()
    work_queue = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="the queue whose workers do it, if it is known: of a run that of its stage, else where it is sent",
    )
    priority = models.PositiveSmallIntegerField(default=3, help_text="1 (first) to 5")
    needs = models.JSONField(default=dict, help_text="cpu (cores), memory_mib, gpu_memory_mib, gpus")
    reason = models.TextField(help_text="why it waits, with the figures of the decision")
    paused_at = models.DateTimeField(db_default=Now(), editable=False)
    resume_after = models.DateTimeField(null=True, blank=True, help_text="not before this time")
    pipeline = models.CharField(max_length=100, blank=True, db_default="", help_text="whose policy it goes on by")
    attempts = models.PositiveIntegerField(default=0, help_text="how often it had been parked before")
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)
    kept_by = models.CharField(
        max_length=10, choices=KeptBy.choices, default=KeptBy.CAPACITY, db_default=KeptBy.CAPACITY
    )
    message = models.JSONField(
        null=True, blank=True, encoder=DjangoJSONEncoder, help_text="what people read of a kept message"
    )
    envelope = models.BinaryField(
        null=True, blank=True, help_text="headers, properties and address of a kept message, whatever they contain"
    )
    body = models.BinaryField(null=True, blank=True, help_text="its body, as it was serialised")
    message_key = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="the broker's own name for the message"
    )
    sending = models.PositiveIntegerField(default=0, db_default=0, help_text="how often it has been sent on")
    sent_at = models.DateTimeField(null=True, blank=True)
    is_forced = models.BooleanField(
        default=False, db_default=False, help_text="an operator forced it on: it waits for no room"
    )
    losses = models.PositiveIntegerField(
        default=0, db_default=0, help_text="how often its message was lost since one was last answered"
    )
    answered_at = models.DateTimeField(null=True, blank=True, help_text="when a worker took up the message it sent")
    answered_by = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="the turn that took it up, or the tag of its message",
    )
    problem = models.CharField(
        max_length=20,
        choices=Problem.choices,
        blank=True,
        default="",
        db_default="",
        help_text="why nobody takes it up, if something is wrong with it",
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="after this time its task no longer runs")
    revoked_at = models.DateTimeField(null=True, blank=True, help_text="when its task was revoked while it waited")

    objects = PauseQueueQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "pause queue entries"
        ordering: ClassVar = ["priority", "paused_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["ref"],
                condition=Q(finished_at__isnull=True, message__isnull=True),
                name="one_waiting_entry_per_ref",
            ),
            models.UniqueConstraint(
                fields=["message_key"], condition=~Q(message_key=""), name="a_message_is_kept_once"
            ),
            models.CheckConstraint(condition=Q(priority__range=(1, 5)), name="priority_is_1_to_5"),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True, outcome="") | (Q(finished_at__isnull=False) & ~Q(outcome="")),
                name="finished_entry_has_an_outcome",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["priority", "paused_at", "id"], condition=Q(finished_at__isnull=True), name="entry_waiting"
            ),
            # Each kind of what waits for room is found by one look into it, and its first entries in their order.
            models.Index(
                fields=["work_queue", "pipeline", "priority", "needs", "paused_at", "id"],
                condition=Q(finished_at__isnull=True, kept_by="capacity"),
                name="entry_of_kind",
            ),
            models.Index(
                Case(When(outcome="sent", then=F("answered_at")), default=F("finished_at")),
                condition=Q(finished_at__isnull=False),
                name="entry_ended",
            ),
            models.Index(fields=["ref"], name="entry_of_ref"),
            models.Index(
                fields=["queue", "sent_at"],
                condition=Q(outcome="sent", answered_at__isnull=True),
                name="entry_unanswered",
            ),
            models.Index(fields=["problem"], condition=~Q(problem=""), name="entry_with_problem"),
            models.Index(fields=["expires_at"], condition=Q(finished_at__isnull=True), name="entry_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.ref} waits for {self.task_name}"

    @property
    def is_run(self) -> bool:
        """Whether what waits is a run, whose message nobody answers."""
        return self.ref.startswith("run:")


class RunningTask(models.Model):
    """A ``PausableTask`` at work. Its process keeps ``seen_at`` fresh. Written by ``running`` and ``kept``.

    The row of one whose worker was lost has no turn: for half a minute it stands for the room that it had.
    """

    task_id = models.TextField()
    task_name = models.TextField()
    queue = models.TextField()
    node = models.TextField()
    worker = models.TextField(help_text="Celery's name of the worker")
    owner = models.CharField(max_length=200, help_text="the main process of the worker, told apart from any other")
    turn = models.UUIDField(unique=True, null=True, help_text="the delivery that wrote the row: a repeat finds it")
    acks_late = models.BooleanField(help_text="whether it is run again if its worker is lost")
    needs = models.JSONField(null=True, blank=True)
    gpus = models.JSONField(default=list, blank=True)
    priority = models.PositiveSmallIntegerField(default=3, db_default=3, help_text="1 (first) to 5, of its delivery")
    asks = models.BooleanField(default=False, db_default=False, help_text="whether it has asked if it should stop")
    gives_way = models.TextField(blank=True, default="", db_default="", help_text="why it is to leave, if it is")
    entry = models.ForeignKey(PauseQueueEntry, on_delete=models.SET_NULL, null=True, blank=True, related_name="running")
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    lost_at = models.DateTimeField(
        null=True, blank=True, help_text="when its worker was found lost; it keeps its place on the node for a while"
    )
    seen_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = RunningTaskQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["task_id"], name="running_by_task"),
            models.Index(fields=["lost_at"], condition=Q(lost_at__isnull=False), name="running_lost"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}[{self.task_id}] on {self.worker}"


class PollState(models.Model):
    """The one row that polls share: the ramp, since when there has been room, and when the last poll was."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    polled_at = models.DateTimeField(null=True, blank=True)
    ramp = models.JSONField(default=dict, blank=True)
    told = models.JSONField(
        default=list, db_default=[], blank=True, help_text="why each kind of what waits does so, as of the last poll"
    )

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="one_poll_state")]

    def __str__(self) -> str:
        return f"last poll {self.polled_at}"


class WorkerNode(models.Model):
    """A machine with workers, as it was last seen. Live samples are in Redis. Written by ``nodes``."""

    name = models.CharField(max_length=255, unique=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    sample = models.JSONField(help_text="The last sample that was kept here")
    watch = models.JSONField(default=dict, db_default={}, help_text="What polls must know of its last judgement")
    is_consuming = models.BooleanField(db_default=True, help_text="No: it is saturated and takes no new work")
    pause_below = models.FloatField(
        null=True, blank=True, help_text="The node's own threshold, 0 to 1; empty: that of the settings"
    )

    objects = WorkerNodeQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(pause_below__isnull=True) | Q(pause_below__gte=0, pause_below__lte=1),
                name="a_threshold_is_a_share",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["-last_seen_at"], name="node_seen")]

    def __str__(self) -> str:
        return self.name


class CapacitySample(models.Model):
    """One minute of one node. Written by ``nodes``, kept for ``history_days``."""

    node = models.ForeignKey(WorkerNode, on_delete=models.CASCADE, related_name="history")
    minute = models.DateTimeField()
    samples = models.PositiveSmallIntegerField(help_text="How many samples it is made of")
    cores = models.FloatField()
    foreign_cores = models.FloatField(help_text="Mean")
    foreign_cores_max = models.FloatField()
    own_cores = models.FloatField(help_text="Mean")
    memory_mib = models.PositiveBigIntegerField()
    free_memory_mib_min = models.PositiveBigIntegerField()
    gpus = models.JSONField(default=list, blank=True, help_text="Per GPU: least free MiB, mean utilisation, problems")

    class Meta:
        ordering: ClassVar = ["-minute"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["node", "minute"], name="one_sample_a_minute")]
        indexes: ClassVar = [models.Index(fields=["minute"], name="sample_age")]

    def __str__(self) -> str:
        return f"{self.node} at {self.minute:%Y-%m-%d %H:%M}"


class Tally(models.Model):
    """What all processes together have counted under one name and set of labels. Written by ``tallies``.

    A few hundred rows whatever the fleet does: one a counter, one a bucket of a histogram.
    """

    name = models.CharField(max_length=100, help_text="of the sample, such as x_total, x_sum or x_bucket")
    labels = models.CharField(max_length=300, blank=True, help_text="JSON with sorted names")
    value = models.FloatField(default=0)
    counted_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "tallies"
        constraints: ClassVar = [models.UniqueConstraint(fields=["name", "labels"], name="one_tally_per_sample")]

    def __str__(self) -> str:
        return f"{self.name}{self.labels}"
