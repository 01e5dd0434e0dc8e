"""What people have answered about the items of one slice, or about the hook that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from django.db.models import Q

from automation.items import units
from automation.items.leased_slice import LeasedSlice
from automation.models import RunQuestion, StageRun, WorkSlice

SETUP = "setup"
"""The key under which the set-up of a loop asks."""
SKIP = "skip"


class Skipped(NamedTuple):
    """An item that a person has given up."""

    error: str
    attempts: int


class Answers:
    """Read when first asked for: while the slice is leased nobody answers anything about it."""

    def __init__(self, work: LeasedSlice, stage_run: StageRun) -> None:
        self._work = work
        self._stage_run = stage_run
        self._given: dict[str, dict[str, str]] | None = None
        self._skipped: dict[str, Skipped] = {}

    def of(self, key: str) -> Mapping[str, str]:
        """The answers to the questions of item ``key``, by question, the last one last."""
        return self._read().get(key, {})

    @property
    def skipped(self) -> Mapping[str, Skipped]:
        """The items that are to be given up without another try, by key."""
        self._read()
        return self._skipped

    def load(self) -> None:
        """Read them now, for code that runs where nothing can be read."""
        self._read()

    def _read(self) -> dict[str, dict[str, str]]:
        if self._given is None:
            given: dict[str, dict[str, str]] = {}
            answered = RunQuestion.objects.filter(self._about, stage_run=self._stage_run, answered_at__isnull=False)
            rows = answered.order_by("answered_at", "id")
            for key, kind, question, answer, error, attempts in rows.values_list(
                "item_key", "kind", "question", "answer", "error", "attempts"
            ):
                if kind == RunQuestion.Kind.QUESTION:
                    given.setdefault(key, {}).pop(question, None)
                    given[key][question] = answer
                elif kind == RunQuestion.Kind.ITEM:
                    self._skipped.pop(key, None)
                    if answer == SKIP:
                        self._skipped[key] = Skipped(error, attempts)
            self._given = given
        return self._given

    @property
    def _about(self) -> Q:
        work = self._work
        if work.phase != WorkSlice.Phase.WORK or work.source_id is None:
            return Q(item_key=WorkSlice.Phase(work.phase).label)
        prefix = units.prefix_of(self._stage_run, work.source_id)
        return Q(item_key=SETUP) | Q(item_key__range=(prefix + work.first_key, prefix + work.last_key))
