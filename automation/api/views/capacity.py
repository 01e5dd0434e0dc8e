"""What the fleet has left, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import TextField, Value
from django.db.models.functions import Cast, Concat
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.errors import EntryNotFound, NodeNotFound
from automation.api.runs.serializers import ReasonSerializer
from automation.api.schema import COMMAND, READ, answers
from automation.models import AutomationRun
from pause_manager import manager
from pause_manager.api import nodes, queue
from pause_manager.api.http import pagination
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.pagination import page_of
from pause_manager.models import PauseQueueEntry, PauseQueueQuerySet
from pause_manager.nodes import report, watching
from pause_manager.pause_queue import stuck

NODE_ID = OpenApiParameter("agent_id", str, OpenApiParameter.PATH, description="Name of a node.")
ENTRY_ID = OpenApiParameter("entry_id", OpenApiTypes.INT64, OpenApiParameter.PATH, description="Id of an entry.")


class VerdictSerializer(serializers.Serializer[Any]):
    """Whether a new loop of a stage would have to wait now, and why."""

    pipeline = serializers.CharField()
    stage = serializers.CharField()
    should_pause = serializers.BooleanField()
    code = serializers.CharField()
    sentence = serializers.CharField()
    figures = serializers.DictField(help_text="What the verdict was made from.")


CapacitySerializer = inline_serializer(
    "Capacity",
    {
        "is_watched": serializers.BooleanField(help_text="Whether room is asked for before work starts."),
        "nodes": nodes.NodeSerializer(many=True),
        "verdicts": VerdictSerializer(many=True),
    },
)


class Capacity(AutomationView):
    """The fleet."""

    @extend_schema(
        operation_id="show_capacity",
        summary="Show nodes, GPUs, shares and reservations, and whether new work of each stage would wait",
        parameters=[schema.REQUEST_ID],
        responses=answers({200: CapacitySerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        return Response({"is_watched": watching.is_watched(), "nodes": report.shown(), "verdicts": _verdicts()})


def _verdicts() -> list[dict[str, Any]]:
    return [{"pipeline": kind.pipeline, "stage": kind.stage, **vars(verdict)} for kind, verdict in manager.verdicts()]


class NodeCapacity(AutomationView):
    """One node."""

    @extend_schema(
        operation_id="show_node_capacity",
        summary="Show the capacity of one node",
        parameters=[NODE_ID, schema.REQUEST_ID],
        responses=answers({200: nodes.NodeSerializer}, *READ),
    )
    def get(self, request: Request, agent_id: str) -> Response:
        for found in report.shown(nodes.check_name(agent_id)):
            return Response(found)
        raise NodeNotFound(agent_id)


class AvailableCapacity(AutomationView):
    """The nodes that have room."""

    @extend_schema(
        operation_id="list_available_nodes",
        summary="List the online nodes that have so much room",
        parameters=[nodes.NodeQuery, schema.REQUEST_ID],
        responses=answers({200: nodes.NodeSerializer(many=True)}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(nodes.NodeQuery)
        return Response(report.matching(report.shown(), query))


def visible(user: Any) -> PauseQueueQuerySet:
    """The waiting entries ``user`` may see: those of runs of their accounts; a superuser's are all."""
    return _of(user, PauseQueueEntry.objects.waiting())


def _of(user: Any, entries: PauseQueueQuerySet) -> PauseQueueQuerySet:
    if user.is_superuser:
        return entries
    refs = (
        AutomationRun.objects.unfinished()
        .visible_to(user)
        .values_list(Concat(Value("run:"), Cast("pk", TextField()), output_field=TextField()))
    )
    return entries.filter(ref__in=refs)


class PauseQueue(AutomationView):
    """What waits."""

    @extend_schema(
        operation_id="list_pause_queue",
        summary="List what waits for capacity or for the end of a hold, in the order in which it continues",
        parameters=[queue.EntryQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("PauseQueuePage", queue.EntrySerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(queue.EntryQuery)
        rows = visible(request.user)
        if "problem" in query:
            rows = _of(request.user, PauseQueueEntry.objects.stuck()).filter(problem=query["problem"])
        rows = rows.light()
        if "waits_for" in query:
            rows = rows.filter(waits_for=query["waits_for"])
        return Response(pagination.page(request, rows, queue.IN_ORDER, query, queue.shown))


def _key(entry_id: str) -> int:
    return int(entry_id) if entry_id.isascii() and entry_id.isdecimal() and len(entry_id) < 19 else 0


class EntryVerb(AutomationView):
    """A verb over an entry that waits."""

    verb: ClassVar[Callable[..., bool]]

    def carry_out(self, request: Request, entry_id: str) -> Response:
        pk = _key(entry_id)
        entry = visible(request.user).light().filter(pk=pk).first()
        reason = self.body(ReasonSerializer)["reason"]
        if entry is None or not type(self).verb(pk, actor=self.actor, reason=reason):
            raise EntryNotFound(entry_id)
        return Response(queue.shown([entry])[0])


class ForceResume(EntryVerb):
    """Send an entry on at once."""

    verb = staticmethod(manager.force_resume)

    @extend_schema(
        operation_id="force_resume",
        summary="Send what waits on, whatever the capacity says",
        description="A run is then never parked again for want of room. Other holds of it stay in force.",
        parameters=[ENTRY_ID, *schema.COMMAND_PARAMETERS],
        request=ReasonSerializer,
        responses=answers({200: queue.EntrySerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        return self.carry_out(request, entry_id)


class ForcePause(EntryVerb):
    """Hold the run that waits."""

    verb = staticmethod(manager.force_pause)

    @extend_schema(
        operation_id="force_pause",
        summary="Hold the run that waits until an operator resumes it",
        description="It keeps its place in the queue. What is not a run cannot be held and answers 400.",
        parameters=[ENTRY_ID, *schema.COMMAND_PARAMETERS],
        request=ReasonSerializer,
        responses=answers({200: queue.EntrySerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        return self.carry_out(request, entry_id)


class MessageVerb(AutomationView):
    """A verb over a message that waits, or that is on its way and that nobody has taken up."""

    def message(self, request: Request, entry_id: str) -> PauseQueueEntry:
        """The entry that is meant. Raises ``EntryNotFound``, and ``InvalidEntryCommand`` for a run."""
        found = _of(request.user, PauseQueueEntry.objects.unfinished()).light().filter(pk=_key(entry_id)).first()
        if found is None:
            raise EntryNotFound(entry_id)
        if found.is_run:
            raise stuck.InvalidEntryCommand(
                f"Cannot change entry {found.pk}: {found.ref} is a run; pause, resume or cancel the run."
            )
        return found

    def told(self, entry: PauseQueueEntry, changed: list[int]) -> Response:
        """The entry as it is now. Raises ``EntryNotFound`` if a worker has taken it up meanwhile."""
        if not changed:
            raise EntryNotFound(str(entry.pk))
        entry.refresh_from_db()
        return Response(queue.shown([entry])[0])


class DropEntry(MessageVerb):
    """Take a message out of the queue for good."""

    @extend_schema(
        operation_id="drop_entry",
        summary="Take a message out of the pause queue for good",
        description="Its task never runs. What is a run cannot be dropped and answers 400: cancel the run.",
        parameters=[ENTRY_ID, *schema.COMMAND_PARAMETERS],
        request=ReasonSerializer,
        responses=answers({200: queue.EntrySerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        reason = self.body(ReasonSerializer)["reason"]
        entry = self.message(request, entry_id)
        return self.told(entry, stuck.drop(stuck.Selection((entry.pk,)), actor=self.actor, reason=reason))


class RerouteEntry(MessageVerb):
    """Send a message to another queue."""

    @extend_schema(
        operation_id="reroute_entry",
        summary="Let a message of the pause queue go to another queue",
        description="It continues as soon as nothing holds that queue and there is room. A run answers 400.",
        parameters=[ENTRY_ID, *schema.COMMAND_PARAMETERS],
        request=queue.RerouteSerializer,
        responses=answers({200: queue.EntrySerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        body = self.body(queue.RerouteSerializer)
        entry, meant = self.message(request, entry_id), {"actor": self.actor, "reason": body["reason"]}
        return self.told(entry, stuck.reroute(stuck.Selection((entry.pk,)), body["queue"], **meant))


class RenameTask(AutomationView):
    """Let the messages of a task run another one."""

    @extend_schema(
        operation_id="rename_task_of_entries",
        summary="Let the messages of the pause queue that name a task run another one",
        description="For what an upgrade has renamed. Answers with the entries that were changed; perhaps none.",
        parameters=[*schema.COMMAND_PARAMETERS],
        request=queue.RenameSerializer,
        responses=answers({200: queue.ChangedSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = self.body(queue.RenameSerializer)
        changed = stuck.rename(
            body["old"],
            body["new"],
            queue=body["queue"],
            actor=self.actor,
            reason=body["reason"],
            among=_of(request.user, PauseQueueEntry.objects.all()),
        )
        return Response({"entries": changed})
