"""``/api/v1/pause-queue/``: what waits for capacity or for the end of a hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import manager, workloads
from pause_manager.api import entries
from pause_manager.api.http import pagination, schema
from pause_manager.api.http.base import ControlView
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.pagination import page_of
from pause_manager.api.http.permissions import MayUseEntries
from pause_manager.api.http.strict import ReasonSerializer
from pause_manager.api.reasons import WaitExplanationSerializer
from pause_manager.models import PauseQueueEntry, PauseQueueQuerySet
from pause_manager.pause_queue import answering, explanation, stuck

ENTRY_ID = OpenApiParameter("entry_id", OpenApiTypes.INT64, OpenApiParameter.PATH, description="Id of an entry.")


class EntryView(ControlView):
    """A view over what waits, as far as it is the caller's to see or to change."""

    permission_classes = [MayUseEntries]

    def entries(self) -> PauseQueueQuerySet:
        """Return the entries that this request may read, or may change."""
        user: Any = self.request.user
        is_read = self.request.method in SAFE_METHODS
        return workloads.visible_entries(user) if is_read else workloads.changeable_entries(user)


class PauseQueue(EntryView):
    """What waits."""

    @extend_schema(
        operation_id="list_pause_queue",
        summary="List what waits for capacity or for the end of a hold, in the order in which it continues",
        parameters=[entries.EntryQuery, schema.REQUEST_ID],
        responses=schema.answers({200: page_of("PauseQueuePage", entries.EntrySerializer)}, *schema.READS, 404),
    )
    def get(self, request: Request) -> Response:
        query = self.query(entries.EntryQuery)
        rows = self.entries().light()
        rows = rows.stuck().filter(problem=query["problem"]) if "problem" in query else rows.waiting()
        if "waits_for" in query:
            rows = rows.filter(waits_for=query["waits_for"])
        return Response(pagination.page(request, rows, entries.IN_ORDER, query, entries.shown))


def _not_found(entry_id: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"Cannot find entry {entry_id[:64]}: none that you may see waits in the pause queue.")


def _key(entry_id: str) -> int:
    return int(entry_id) if entry_id.isascii() and entry_id.isdecimal() and len(entry_id) < 19 else 0


class EntryExplanation(EntryView):
    """Why an entry waits."""

    @extend_schema(
        operation_id="explain_entry",
        summary="List every reason why an entry of the pause queue waits, and its place among what waits for the same",
        parameters=[ENTRY_ID, schema.REQUEST_ID],
        responses=schema.answers({200: WaitExplanationSerializer}, *schema.READS, 404),
    )
    def get(self, request: Request, entry_id: str) -> Response:
        entry = self.entries().light().filter(pk=_key(entry_id)).first()
        if entry is None:
            raise _not_found(entry_id)
        return Response(WaitExplanationSerializer(explanation.explain(entry).as_dict()).data)


class EntryVerb(EntryView):
    """A verb over an entry that waits."""

    verb: ClassVar[Callable[..., bool]]

    def carry_out(self, request: Request, entry_id: str) -> Response:
        pk = _key(entry_id)
        entry = self.entries().waiting().light().filter(pk=pk).first()
        reason = self.body(ReasonSerializer)["reason"]
        if entry is None or not type(self).verb(pk, actor=self.actor, reason=reason):
            raise _not_found(entry_id)
        return Response(entries.shown([entry])[0])


class ForceResume(EntryVerb):
    """Send an entry on at once."""

    verb = staticmethod(manager.force_resume)

    @extend_schema(
        operation_id="force_resume",
        summary="Start what waits without checking capacity",
        description="A run is then never parked for capacity again. Other holds on it stay in force.",
        parameters=[ENTRY_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=schema.answers({200: entries.EntrySerializer}, *schema.COMMANDS, 404),
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
        description="The run keeps its place in the queue. An entry that is not a run is refused with 400.",
        parameters=[ENTRY_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=schema.answers({200: entries.EntrySerializer}, *schema.COMMANDS, 404),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        return self.carry_out(request, entry_id)


class MessageVerb(EntryView):
    """A verb over a message that waits, or that is on its way and that nobody has taken up."""

    def message(self, entry_id: str) -> PauseQueueEntry:
        """The entry that is meant. Raises ``NotFound``, and ``InvalidEntryCommand`` for a run."""
        found = self.entries().unfinished().light().filter(pk=_key(entry_id)).first()
        if found is None:
            raise _not_found(entry_id)
        if found.is_run:
            raise stuck.InvalidEntryCommand(
                f"Cannot change entry {found.pk}: {found.ref} is a run; pause, resume or cancel the run."
            )
        return found

    def told(self, entry: PauseQueueEntry, changed: list[int]) -> Response:
        """The entry as it is now. Raises ``NotFound`` if a worker has taken it up meanwhile."""
        if not changed:
            raise _not_found(str(entry.pk))
        entry.refresh_from_db()
        return Response(entries.shown([entry])[0])


class DropEntry(MessageVerb):
    """Take a message out of the queue for good."""

    @extend_schema(
        operation_id="drop_entry",
        summary="Take a message out of the pause queue for good",
        description="Its task never runs. An entry of a run is refused with 400: cancel the run instead.",
        parameters=[ENTRY_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=schema.answers({200: entries.EntrySerializer}, *schema.COMMANDS, 404),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        reason = self.body(ReasonSerializer)["reason"]
        entry = self.message(entry_id)
        return self.told(entry, stuck.drop(stuck.Selection((entry.pk,)), actor=self.actor, reason=reason))


class AnswerEntry(MessageVerb):
    """Decide about a task that has failed and asks."""

    @extend_schema(
        operation_id="answer_entry",
        summary="Decide what becomes of a task whose retries are used up: retry, skip or fail",
        description='Applies to tasks with `on_exhausted = "hold"`, whose entries have `waits_for` `answer`. Any other '
        "entry is refused with 400.",
        parameters=[ENTRY_ID, *schema.COMMAND],
        request=entries.DecisionSerializer,
        responses=schema.answers({200: entries.EntrySerializer}, *schema.COMMANDS, 404),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        body = self.body(entries.DecisionSerializer)
        entry = self.message(entry_id)
        if entry.waits_for != PauseQueueEntry.WaitsFor.ANSWER or entry.finished_at is not None:
            raise stuck.InvalidEntryCommand(f"Cannot answer entry {entry.pk}: it waits for no answer.")
        meant = {"actor": self.actor, "reason": body["reason"]}
        return self.told(entry, answering.answer(stuck.Selection((entry.pk,)), body["answer"], **meant))


class RerouteEntry(MessageVerb):
    """Send a message to another queue."""

    @extend_schema(
        operation_id="reroute_entry",
        summary="Let a message of the pause queue go to another queue",
        description="It continues as soon as nothing holds that queue and there is room. A run answers 400.",
        parameters=[ENTRY_ID, *schema.COMMAND],
        request=entries.RerouteSerializer,
        responses=schema.answers({200: entries.EntrySerializer}, *schema.COMMANDS, 404),
    )
    @idempotent
    def post(self, request: Request, entry_id: str) -> Response:
        body = self.body(entries.RerouteSerializer)
        entry, meant = self.message(entry_id), {"actor": self.actor, "reason": body["reason"]}
        return self.told(entry, stuck.reroute(stuck.Selection((entry.pk,)), body["queue"], **meant))


class RenameTask(EntryView):
    """Let the messages of a task run another one."""

    @extend_schema(
        operation_id="rename_task_of_entries",
        summary="Let the messages of the pause queue that name a task run another one",
        description="For tasks that an upgrade has renamed. The answer lists the entries that were changed, if any.",
        parameters=[*schema.COMMAND],
        request=entries.RenameSerializer,
        responses=schema.answers({200: entries.ChangedSerializer}, *schema.COMMANDS, 404),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        body = self.body(entries.RenameSerializer)
        changed = stuck.rename(
            body["old"],
            body["new"],
            queue=body["queue"],
            actor=self.actor,
            reason=body["reason"],
            among=self.entries(),
        )
        return Response({"entries": changed})
