"""The pause queue, and the state that its polls share."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now, Substr

from pause_manager.models.holds import Hold
from pause_manager.scopes import RUNS, is_run


class PauseQueueQuerySet(models.QuerySet["PauseQueueEntry"]):
    def waiting(self) -> PauseQueueQuerySet:
        """Entries that have neither been sent on nor dropped, in the order in which they are resumed."""
        return self.filter(finished_at__isnull=True).order_by("priority", "paused_at", "id")

    def messages(self) -> PauseQueueQuerySet:
        """Entries that are sent on as a message. Runs are not: dispatch sees to theirs."""
        return self.exclude(ref__startswith=RUNS)

    def unconfirmed(self) -> PauseQueueQuerySet:
        """Messages that were sent on and that no worker has taken up yet."""
        return self.filter(outcome="sent", confirmed_at__isnull=True)

    def free(self) -> PauseQueueQuerySet:
        """Entries that only a hold kept and that none covers any more. A held node keeps nothing: others may do it."""
        fleet = Hold.objects.active().filter(scope="fleet")
        queues = Hold.objects.active().filter(scope__startswith="queue:").values(name=Substr("scope", 7))
        resources = Hold.objects.active().filter(scope__startswith="resource:").values(name=Substr("scope", 10))
        is_due = models.Q(resume_after__isnull=True) | models.Q(resume_after__lte=Now())
        # What the broker refused and the like is tried again in time; a task that nobody knows when somebody does.
        is_known = ~models.Q(problem="unknown_task")
        uncovered = self.waiting().filter(is_due, is_known, ~models.Exists(fleet)).exclude(queue__in=queues)
        return uncovered.exclude(uses__overlap=ArraySubquery(resources)).filter(waits_for="hold")

    def stuck(self) -> PauseQueueQuerySet:
        """Entries that something is wrong with: nobody takes them up. Those on their way once more are among them."""
        return self.unfinished().exclude(problem="")

    def unfinished(self) -> PauseQueueQuerySet:
        """Entries that wait, or that were sent on and that no worker has taken up yet."""
        return self.filter(models.Q(finished_at__isnull=True) | models.Q(outcome="sent", confirmed_at__isnull=True))

    def light(self) -> PauseQueueQuerySet:
        """Without what may be large: the message. It is read when it is asked for."""
        return self.defer("body", "envelope", "message")

    def with_wait(self) -> PauseQueueQuerySet:
        """Annotate ``waited``, the seconds that an entry has waited, by the database's clock."""
        return self.annotate(waited=_waited())


def _waited() -> models.Func:
    return models.Func(
        Now() - F("paused_at"),
        template="extract(epoch FROM %(expressions)s)::float8",
        output_field=models.FloatField(),
    )


class PauseQueueEntry(models.Model):
    """A dispatch withheld until capacity recovers or a hold ends. Written by ``pause_queue``.

    What is withheld is a signature, or the whole message of a ``PausableTask``. Sent on, a message names its entry and
    its generation; the worker that receives it confirms the entry, once.
    """

    class Outcome(models.TextChoices):
        SENT = "sent", "sent on"
        DROPPED = "dropped", "dropped: what it was for has ended or continues by itself, or a person dropped it"
        EXPIRED = "expired", "its time to run was over while it waited"
        REVOKED = "revoked", "revoked while it waited"

    class WaitsFor(models.TextChoices):
        CAPACITY = "capacity", "want of room: the poll sends it on when there is some"
        HOLD = "hold", "a hold alone: sent on as soon as none covers it"
        ANSWER = "answer", "a person's answer: its task has failed, and its retries are used up"

    class Answer(models.TextChoices):
        RETRY = "retry", "run it again, with all its retries"
        SKIP = "skip", "drop it: its task does not run again, and nobody is told a result"
        FAIL = "fail", "let it fail with its error, as it would have without being asked"

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
    uses = ArrayField(
        models.TextField(), default=list, db_default=[], blank=True, help_text="the resources outside that it uses"
    )
    reason = models.TextField(help_text="why it waits, with the figures of the decision")
    paused_at = models.DateTimeField(db_default=Now(), editable=False)
    resume_after = models.DateTimeField(null=True, blank=True, help_text="not before this time")
    pipeline = models.CharField(max_length=100, blank=True, db_default="", help_text="whose policy lets it resume")
    attempts = models.PositiveIntegerField(default=0, help_text="how often it had been parked before")
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)
    waits_for = models.CharField(
        max_length=10, choices=WaitsFor.choices, default=WaitsFor.CAPACITY, db_default=WaitsFor.CAPACITY
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
    generation = models.PositiveIntegerField(default=0, db_default=0, help_text="how often it has been sent on")
    sent_at = models.DateTimeField(null=True, blank=True)
    is_forced = models.BooleanField(
        default=False, db_default=False, help_text="an operator forced it on: it waits for no room"
    )
    losses = models.PositiveIntegerField(
        default=0, db_default=0, help_text="how often its message was lost since one was last answered"
    )
    confirmed_at = models.DateTimeField(null=True, blank=True, help_text="when a worker took up the message it sent")
    confirmed_by = models.CharField(
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
    failure = models.JSONField(
        null=True,
        blank=True,
        encoder=DjangoJSONEncoder,
        help_text="what its task failed with when its retries were used up: error, tries, and the exception in parts",
    )
    answer = models.CharField(
        max_length=10,
        choices=Answer.choices,
        blank=True,
        default="",
        db_default="",
        help_text="what a person has decided about the failure; empty while nobody has, or after a new one",
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
                condition=Q(finished_at__isnull=True, waits_for="capacity"),
                name="entry_of_kind",
            ),
            models.Index(
                Case(When(outcome="sent", then=F("confirmed_at")), default=F("finished_at")),
                condition=Q(finished_at__isnull=False),
                name="entry_ended",
            ),
            models.Index(fields=["ref"], name="entry_of_ref"),
            models.Index(
                fields=["queue", "sent_at"],
                condition=Q(outcome="sent", confirmed_at__isnull=True),
                name="entry_unconfirmed",
            ),
            models.Index(fields=["problem"], condition=~Q(problem=""), name="entry_with_problem"),
            models.Index(fields=["expires_at"], condition=Q(finished_at__isnull=True), name="entry_expires"),
            # Few use a resource: those of whom it is asked how many wait for it.
            models.Index(
                fields=["id"], condition=Q(finished_at__isnull=True) & ~Q(uses=[]), name="entry_using_resources"
            ),
            models.Index(fields=["outcome", "-id"], condition=Q(finished_at__isnull=False), name="entry_by_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.ref} waits for {self.task_name}"

    @property
    def is_run(self) -> bool:
        """Return whether what waits is a run, whose message nobody answers."""
        return is_run(self.ref)


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
