"""Questions that a run asks a person, and what was answered."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class QuestionQuerySet(models.QuerySet["RunQuestion"]):
    def open(self) -> QuestionQuerySet:
        """Those that wait for an answer."""
        return self.filter(answered_at__isnull=True, closed_at__isnull=True)


class RunQuestion(models.Model):
    """What a stage asks about one item, and its answer. Written by ``runs.questions``.

    While one of a run is open, a ``needs_input`` hold keeps the run. ``item_key`` is ``prepare``, ``setup`` or
    ``finish`` for a hook, and empty where the question is about the whole stage.
    """

    class Kind(models.TextChoices):
        QUESTION = "question", "a question of the stage"
        ITEM = "item", "an item whose tries are used up"
        HOOK = "hook", "a hook whose tries are used up"
        LOOPS = "loops", "a stage whose loops fail"
        FAILURES = "failures", "a stage with more failed items than it allows"

    class AppliesTo(models.TextChoices):
        ITEM = "item", "this question alone"
        SAME_ERROR = "same_error", "all items of the stage that fail with the same error"
        ALL = "all", "all questions of this kind of the stage"

    run = models.ForeignKey("automation.AutomationRun", on_delete=models.CASCADE, related_name="questions")
    stage_run = models.ForeignKey("automation.StageRun", on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    item_key = models.CharField(max_length=200, db_collation="C", blank=True)
    question = models.TextField()
    choices = ArrayField(models.TextField(), default=list, blank=True, help_text="allowed answers; empty: any text")
    error = models.TextField(blank=True, help_text="of the last try, if one has failed")
    error_pattern = models.CharField(
        max_length=300, blank=True, help_text="the error without numbers and quoted parts: the same for the same error"
    )
    attempts = models.PositiveIntegerField(default=0, help_text="tries that have failed")
    asked_at = models.DateTimeField(db_default=Now(), editable=False)
    asked_by = models.CharField(max_length=200, blank=True, help_text="the worker")
    answer = models.TextField(blank=True)
    applies_to = models.CharField(max_length=10, choices=AppliesTo.choices, default=AppliesTo.ITEM)
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = models.CharField(max_length=160, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True, help_text="the run ended before it was answered")

    objects = QuestionQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["stage_run", "kind", "item_key"],
                condition=Q(answered_at__isnull=True, closed_at__isnull=True),
                name="one_open_question",
            ),
            models.CheckConstraint(
                condition=Q(answered_at__isnull=True, answer="", answered_by="")
                | (Q(answered_at__isnull=False, closed_at__isnull=True) & ~Q(answer="") & ~Q(answered_by="")),
                name="an_answer_names_its_actor",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["stage_run", "item_key"], name="question_of_item"),
            models.Index(
                fields=["asked_at"],
                condition=Q(answered_at__isnull=True, closed_at__isnull=True),
                name="question_open",
            ),
        ]

    def __str__(self) -> str:
        return f"question {self.pk} of run {self.run_id}"
