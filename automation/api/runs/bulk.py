"""Verbs over many runs at once: what was done, and a refusal for each of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import CharField, Exists, OuterRef, Q, Value
from django.db.models.functions import Cast, Concat
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.errors import RunNotFound
from automation.api.runs import filters, selection
from automation.api.schema import COMMAND, answers
from automation.errors import AutomationError
from automation.models.runs import RunQuerySet, lock_runs
from automation.reports.status import ALL as STATUSES
from automation.runs import lifecycle
from automation.runs.lifecycle import Outcome
from pause_manager import scopes
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.strict import ReasonSerializer, StrictSerializer
from pause_manager.models import Hold

MOST_RUNS = 1_000

_SCOPE = Concat(Value(scopes.RUNS), Cast(OuterRef("pk"), CharField()), output_field=CharField())
CHANGES: dict[str, Q] = {
    "pause": Q(paused_at__isnull=True, cancel_requested_at__isnull=True),
    "resume": Q(Exists(Hold.objects.active().filter(scope=_SCOPE, kind=Hold.Kind.OPERATOR))),
    "cancel": Q(cancel_requested_at__isnull=True),
}
"""By verb, the unfinished runs that it would change."""


class RunFilter(StrictSerializer):
    """The filters of the list of runs; at least one."""

    status = serializers.ChoiceField(choices=STATUSES, required=False, help_text="Derived status.")
    site = serializers.CharField(max_length=60, required=False, help_text="Slug or id of a site.")
    pipeline = serializers.CharField(max_length=50, required=False, help_text="Slug of a pipeline.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("expected status, site or pipeline, got none of them")
        return attrs


class BulkSerializer(ReasonSerializer):
    """Which runs, and why."""

    ids = serializers.ListField(
        child=serializers.UUIDField(), required=False, min_length=1, max_length=MOST_RUNS, help_text="Whole ids."
    )
    filter = RunFilter(
        required=False,
        help_text=f"Instead of `ids`: the oldest {MOST_RUNS:,} matching runs that the command would change.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise serializers.ValidationError("expected either ids or filter")
        return attrs


class BulkRefusalSerializer(serializers.Serializer[Any]):
    """A run that was not changed."""

    id = serializers.UUIDField()
    code = serializers.CharField()
    sentence = serializers.CharField()


class BulkOutcomeSerializer(serializers.Serializer[Any]):
    """What a command did to each of many runs."""

    done = serializers.ListField(child=serializers.UUIDField())
    refused = BulkRefusalSerializer(many=True)
    more = serializers.BooleanField(help_text="Whether the filter matches more runs; if so, send the request again.")


Verb = Callable[..., Outcome]


def bulk_verb(name: str, verb: Verb) -> type[AutomationView]:
    """Return the endpoint that carries ``verb`` out over many runs, in one transaction."""

    class BulkVerb(AutomationView):
        @extend_schema(
            operation_id=f"{name}_runs",
            summary=f"{name.capitalize()} many runs",
            description=f"The runs in `ids` ({MOST_RUNS:,} at most), or those that match a `filter` and that it would "
            "change. A run that it does not apply to, or that you may not see, is refused by itself; the others are "
            "changed all the same.",
            parameters=schema.COMMAND_PARAMETERS,
            request=BulkSerializer,
            responses=answers({200: BulkOutcomeSerializer}, *COMMAND),
        )
        @idempotent
        def post(self, request: Request) -> Response:
            given = self.body(BulkSerializer)
            visible = selection.visible(request.user)
            more = False
            if "filter" in given:
                wanted = _matching(request.user, visible, name, given["filter"])
                more, wanted = len(wanted) > MOST_RUNS, wanted[:MOST_RUNS]
                known = set(wanted)
            else:
                wanted = list(dict.fromkeys(given["ids"]))
                known = set(visible.filter(pk__in=wanted).values_list("pk", flat=True))
            ids = [pk for pk in wanted if pk in known]
            with transaction.atomic():
                lock_runs([str(pk) for pk in ids])  # all of them first, in order: two such calls must not block
                outcome = verb(ids, actor=self.actor, reason=given["reason"])
            refused: list[tuple[UUID, AutomationError]] = [
                (pk, RunNotFound(str(pk))) for pk in wanted if pk not in known
            ]
            refused += [(UUID(str(one.run_id)), one) for one in outcome.refused]
            told = [{"id": str(pk), "code": error.code, "sentence": str(error)} for pk, error in refused]
            return Response({"done": [str(pk) for pk in outcome.done], "refused": told, "more": more})

    return BulkVerb


def _matching(user: Any, visible: RunQuerySet, verb: str, wanted: dict[str, Any]) -> Sequence[UUID]:
    """The oldest runs that match and that ``verb`` would change, one more than are changed at once."""
    site = selection.find_site(user, wanted["site"]) if "site" in wanted else None
    rows = filters.narrowed(visible, wanted, site.pk if site else None).unfinished().filter(CHANGES[verb])
    return list(rows.order_by("created_at", "id").values_list("pk", flat=True)[: MOST_RUNS + 1])


PauseRuns = bulk_verb("pause", lifecycle.pause_runs)
ResumeRuns = bulk_verb("resume", lifecycle.resume_runs)
CancelRuns = bulk_verb("cancel", lifecycle.cancel_many)
