"""Named queries over holds and events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import connections, models
from django.db.models import F
from django.db.models.functions import Now, Substr

from pause_manager.workloads_loads import KEEPS_SECONDS

if TYPE_CHECKING:
    from pause_manager.models import (  # noqa: F401  (named in texts)
        ControlEvent,
        Hold,
        PauseQueueEntry,
        RunningTask,
        WorkerNode,
    )


class HoldQuerySet(models.QuerySet["Hold"]):
    def active(self) -> HoldQuerySet:
        """Holds in force: not released. An expired hold is in force until ``holds.expire`` has acted on it."""
        return self.filter(released_at__isnull=True)

    def covering(self, scopes: Iterable[str]) -> HoldQuerySet:
        """Holds in force on any of ``scopes``."""
        return self.active().filter(scope__in=list(scopes))

    def due(self) -> HoldQuerySet:
        """Timed holds whose time is over by the database's clock."""
        return self.active().filter(expires_at__lte=Now())


class ControlEventQuerySet(models.QuerySet["ControlEvent"]):
    def of_scope(self, scope: str) -> ControlEventQuerySet:
        """The events of one scope, newest first."""
        return self.filter(scope=scope).order_by("-id")

    def values_used(self, field: str) -> list[str]:
        """The distinct values of an indexed text column, by one look into the index for each: never a scan."""
        table, column = self.model._meta.db_table, field
        with connections[self.db].cursor() as cursor:
            cursor.execute(
                f"WITH RECURSIVE used AS (SELECT min({column}) AS value FROM {table} UNION ALL "
                f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > used.value) FROM used "
                f"WHERE used.value IS NOT NULL) SELECT value FROM used WHERE value IS NOT NULL"
            )
            return [row[0] for row in cursor.fetchall()]


class PauseQueueQuerySet(models.QuerySet["PauseQueueEntry"]):
    def waiting(self) -> PauseQueueQuerySet:
        """Entries that have neither been sent on nor dropped, in the order in which they are resumed."""
        return self.filter(finished_at__isnull=True).order_by("priority", "paused_at", "id")

    def messages(self) -> PauseQueueQuerySet:
        """Entries that are sent on as a message. Runs are not: dispatch sees to theirs."""
        return self.exclude(ref__startswith="run:")

    def unanswered(self) -> PauseQueueQuerySet:
        """Messages that were sent on and that no worker has taken up yet."""
        return self.filter(outcome="sent", answered_at__isnull=True)

    def free(self) -> PauseQueueQuerySet:
        """Entries that only a hold kept and that none covers any more. A held node keeps nothing: others may do it."""
        from pause_manager.models import Hold

        fleet = Hold.objects.active().filter(scope="fleet")
        queues = Hold.objects.active().filter(scope__startswith="queue:").values(name=Substr("scope", 7))
        is_due = models.Q(resume_after__isnull=True) | models.Q(resume_after__lte=Now())
        # What the broker refused and the like is tried again in time; a task that nobody knows when somebody does.
        is_known = ~models.Q(problem="unknown_task")
        uncovered = self.waiting().filter(is_due, is_known, ~models.Exists(fleet)).exclude(queue__in=queues)
        return uncovered.filter(kept_by="hold")

    def stuck(self) -> PauseQueueQuerySet:
        """Entries that something is wrong with: nobody takes them up. Those on their way once more are among them."""
        return self.unfinished().exclude(problem="")

    def unfinished(self) -> PauseQueueQuerySet:
        """Entries that wait, or that were sent on and that no worker has taken up yet."""
        return self.filter(models.Q(finished_at__isnull=True) | models.Q(outcome="sent", answered_at__isnull=True))

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


class RunningTaskQuerySet(models.QuerySet["RunningTask"]):
    def with_age(self) -> RunningTaskQuerySet:
        """Annotates ``unseen``, the time since its process last said that it runs, and ``keeps_place``: whether it was
        lost so lately that it keeps its place. By the database's clock."""
        return self.annotate(
            unseen=models.ExpressionWrapper(Now() - F("seen_at"), models.DurationField()),
            keeps_place=models.Q(lost_at__gt=Now() - timedelta(seconds=KEEPS_SECONDS)),
        )

    def at_work(self) -> RunningTaskQuerySet:
        """Those that are not known to be lost."""
        return self.filter(lost_at__isnull=True)

    def out_of_place(self) -> RunningTaskQuerySet:
        """Those that were lost so long ago that they keep no place any more."""
        return self.filter(lost_at__lte=Now() - timedelta(seconds=KEEPS_SECONDS))


class WorkerNodeQuerySet(models.QuerySet["WorkerNode"]):
    def with_age(self) -> WorkerNodeQuerySet:
        """Annotates ``db_now`` and ``age``, the time since the node was last seen, both by the database's clock."""
        return self.annotate(
            db_now=Now(), age=models.ExpressionWrapper(Now() - F("last_seen_at"), models.DurationField())
        )

    def seen_within(self, period: timedelta) -> WorkerNodeQuerySet:
        """Nodes seen in the last ``period``."""
        return self.filter(last_seen_at__gte=Now() - period)
