"""Items, slices, failures and tickets: the rows that work is made of."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class WorkItem(models.Model):
    """One immutable item: written once, by the stage run that made it, and read by the stages after it.

    ``key`` sorts in input order and is made from the key of the item it came from, so it is the same however the
    stage was sliced, and the unique constraint refuses an output that is committed twice. Written by ``leases``.
    """

    id = models.BigAutoField(primary_key=True)
    # Without a constraint: its trigger, fired for each row, would cost more than all the rest of an item.
    made_by = models.ForeignKey(
        "automation.StageRun", on_delete=models.CASCADE, related_name="outputs", db_index=False, db_constraint=False
    )
    key = models.CharField(max_length=200, db_collation="C")
    payload = models.JSONField()

    class Meta:
        ordering: ClassVar = ["made_by", "key"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["made_by", "key"], name="one_output_per_key")]

    def __str__(self) -> str:
        return f"item {self.key}"


class SliceQuerySet(models.QuerySet["WorkSlice"]):
    def open(self) -> SliceQuerySet:
        """Slices with work left."""
        return self.filter(finished_at__isnull=True)

    def leased(self) -> SliceQuerySet:
        """Slices held by a worker, live or lost: a lease ends when it is given back or reaped, not when it runs out."""
        return self.filter(finished_at__isnull=True, lease_token__isnull=False)


class WorkSlice(models.Model):
    """A contiguous range of a stage's items: the unit of lease. Written by ``leases``.

    ``cursor`` is the key of the last item that is done, empty at the start. A slice of phase ``prepare`` or
    ``finish`` stands for the stage's hook and has no items.
    """

    class Phase(models.IntegerChoices):
        PREPARE = 0, "prepare"
        WORK = 1, "work"
        FINISH = 2, "finish"

    stage_run = models.ForeignKey(
        "automation.StageRun", on_delete=models.CASCADE, related_name="slices", db_index=False
    )
    phase = models.SmallIntegerField(choices=Phase.choices, default=Phase.WORK)
    ordinal = models.PositiveIntegerField()
    source = models.ForeignKey(
        "automation.StageRun",
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        db_index=False,
        db_constraint=False,  # of the same run: its check, for each stage that goes, would read all slices
    )
    first_key = models.CharField(max_length=200, db_collation="C", blank=True)
    last_key = models.CharField(max_length=200, db_collation="C", blank=True)
    size = models.PositiveIntegerField(default=0)
    cursor = models.CharField(max_length=200, db_collation="C", blank=True)
    processed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    busy_seconds = models.FloatField(default=0, help_text="worker time spent in it")
    is_begun = models.BooleanField(default=False, db_default=False, help_text="whether it has ever been leased")
    finished_at = models.DateTimeField(null=True, blank=True)
    finished_token = models.BigIntegerField(null=True, blank=True, help_text="fencing token it was finished under")
    available_at = models.DateTimeField(null=True, blank=True, help_text="not before this time")
    crashes = models.PositiveSmallIntegerField(
        default=0, help_text="processes that died, provably, on the item after the cursor"
    )
    expiries = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="leases that ended otherwise since the cursor last moved: nobody's fault"
    )
    is_alone = models.BooleanField(
        default=False, db_default=False, help_text="what is left of it is one item, or group, that is tried alone"
    )
    waits = models.PositiveIntegerField(
        default=0, db_default=0, help_text="how often the item after the cursor has asked to be tried later"
    )
    waited_seconds = models.FloatField(default=0, db_default=0, help_text="for how long in all")
    waits_for = models.TextField(blank=True, default="", db_default="", help_text="what it said")
    lease_token = models.BigIntegerField(null=True, blank=True, help_text="fencing token")
    lease_owner = models.CharField(max_length=200, blank=True)
    lease_node = models.CharField(max_length=200, blank=True)
    lease_keeper = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="the worker's main process, which renews it"
    )
    lease_excused = models.BooleanField(
        default=False, db_default=False, help_text="its process was told to end: that it dies proves nothing"
    )
    lease_gpus = ArrayField(models.TextField(), default=list, blank=True, help_text="UUIDs")
    lease_yield = models.TextField(blank=True, help_text="why the loop is to give the slice back for others")
    leased_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(
        null=True, blank=True, help_text="when its worker was lost, on lease_node, if nobody has leased it since"
    )

    item_key = models.CharField(
        max_length=200,
        db_collation="C",
        blank=True,
        db_default="",
        help_text="the item in progress, if it is a long one",
    )
    item_since = models.DateTimeField(null=True, blank=True, help_text="since when; empty: no item takes long")
    item_limit = models.FloatField(null=True, blank=True, help_text="seconds after which it is ended")
    overrun_key = models.CharField(
        max_length=200, db_collation="C", blank=True, db_default="", help_text="the last item that took too long"
    )
    overrun_attempts = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="how often it, or without a key the hook, was tried by then"
    )

    objects = SliceQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["stage_run", "phase", "ordinal"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["stage_run", "phase", "ordinal"], name="one_slice_per_ordinal"),
            models.CheckConstraint(
                condition=Q(lease_token__isnull=True, lease_expires_at__isnull=True, leased_at__isnull=True)
                | Q(lease_token__isnull=False, lease_expires_at__isnull=False, leased_at__isnull=False),
                name="lease_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True) | Q(lease_token__isnull=True), name="finished_slice_is_not_leased"
            ),
            models.CheckConstraint(
                condition=Q(processed__lte=F("size") - F("failed")), name="slice_counts_within_size"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["stage_run", "phase", "ordinal"], condition=Q(finished_at__isnull=True), name="slice_open"
            ),
            # Not on lease_expires_at: heartbeats and checkpoints stay heap-only updates.
            models.Index(
                fields=["stage_run"],
                condition=Q(lease_token__isnull=False, finished_at__isnull=True),
                name="slice_leased",
            ),
            models.Index(
                fields=["stage_run"], condition=Q(lost_at__isnull=False, finished_at__isnull=True), name="slice_lost"
            ),
            models.Index(
                fields=["stage_run"],
                condition=Q(available_at__isnull=False, finished_at__isnull=True),
                name="slice_later",
            ),
            models.Index(
                fields=["stage_run"], condition=Q(is_begun=True, finished_at__isnull=True), name="slice_begun"
            ),
            models.Index(
                fields=["stage_run"],
                condition=Q(finished_at__isnull=True) & (Q(waits__gt=0) | Q(crashes__gt=0) | Q(expiries__gt=0)),
                name="slice_in_trouble",
            ),
        ]

    def __str__(self) -> str:
        return f"slice {self.ordinal} of stage run {self.stage_run_id}"


class SliceTotals(models.Model):
    """Of the slices of a stage run, by phase: how many are open, and what the finished ones have done.

    Kept, so that nobody has to count. Written by the trigger ``automation_total_slices`` alone, in the transaction of
    whatever writes the slices.
    """

    stage_run = models.ForeignKey(
        "automation.StageRun", on_delete=models.CASCADE, related_name="totals", db_index=False
    )
    phase = models.SmallIntegerField(choices=WorkSlice.Phase.choices)
    open = models.PositiveIntegerField()
    processed = models.PositiveBigIntegerField()
    failed = models.PositiveBigIntegerField()

    class Meta:
        verbose_name_plural = "slice totals"
        constraints: ClassVar = [models.UniqueConstraint(fields=["stage_run", "phase"], name="one_total_per_phase")]

    def __str__(self) -> str:
        return f"{self.open} open slices of stage run {self.stage_run_id}"


class ItemFailure(models.Model):
    """An item that was given up, with the last error. Written by ``leases``."""

    stage_run = models.ForeignKey(
        "automation.StageRun", on_delete=models.CASCADE, related_name="failures", db_index=False
    )
    key = models.CharField(max_length=200, db_collation="C")
    payload = models.JSONField()
    error = models.TextField()
    attempts = models.PositiveSmallIntegerField(default=1)
    failed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["stage_run", "key"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["stage_run", "key"], name="one_failure_per_item")]

    def __str__(self) -> str:
        return f"failure of item {self.key}"


class ItemState(models.Model):
    """The state of an item in progress, as its stage committed it. Written by ``items.partial_items``.

    Deleted when the item ends. ``outputs`` were committed with it, in :class:`ItemChunk`.
    """

    stage_run = models.ForeignKey("automation.StageRun", on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=200, db_collation="C")
    state = models.JSONField()
    outputs = models.PositiveBigIntegerField(default=0)
    written_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["stage_run", "key"], name="one_state_per_item")]

    def __str__(self) -> str:
        return f"state of item {self.key}"


class ItemChunk(models.Model):
    """Outputs of an item in progress, as lines of key, tab and JSON. Written by ``items.partial_items``.

    They become items when the item ends. ``ordinal`` is the number of the first.
    """

    stage_run = models.ForeignKey("automation.StageRun", on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=200, db_collation="C")
    ordinal = models.PositiveBigIntegerField()
    rows = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["stage_run", "key", "ordinal"], name="one_chunk_per_ordinal")
        ]

    def __str__(self) -> str:
        return f"outputs of item {self.key} from {self.ordinal:,} on"


class Ticket(models.Model):
    """An outbox row: a message sent for a stage run that no loop has taken yet. Written by ``dispatch``.

    The loop that takes it deletes it; a message without its ticket is a duplicate and ends at once.
    """

    stage_run = models.ForeignKey("automation.StageRun", on_delete=models.CASCADE, related_name="tickets")
    queue = models.CharField(max_length=100)
    sent_at = models.DateTimeField(db_default=Now())
    called_at = models.DateTimeField(
        null=True, blank=True, help_text="when a loop of another run made room for it, see turns"
    )

    class Meta:
        indexes: ClassVar = [models.Index(fields=["queue", "sent_at"], name="ticket_oldest")]

    def __str__(self) -> str:
        return f"ticket {self.pk} for stage run {self.stage_run_id}"
