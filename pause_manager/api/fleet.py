"""``/api/system/worker-pause``: the fleet switch over HTTP, its keys in camel case."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, status
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import conf, fleet, workloads
from pause_manager.actor import Actor
from pause_manager.api.fleet_schema import (
    RefusedSerializer,
    SnapshotQuery,
    SnapshotSerializer,
    WorkerPauseSerializer,
)
from pause_manager.api.http import errors, schema
from pause_manager.api.http.base import ControlView
from pause_manager.api.http.idempotency import idempotent, key_of
from pause_manager.api.http.permissions import MayUseFleet, may_operate
from pause_manager.errors import FleetRefused
from pause_manager.fleet import drain
from pause_manager.holds import fleet_state

_CODES = {
    "invalid": "worker_pause_invalid_request",
    "parse_error": "worker_pause_invalid_request",
    "permission_denied": "worker_pause_forbidden",
    "internal_error": "worker_pause_apply_failed",
}
_ANSWERS: dict[int, schema.Answer] = {
    **schema.ANSWERS,
    403: (
        schema.ErrorSerializer,
        "`worker_pause_forbidden`: the caller is no operator of the fleet. `worker_pause_actor_missing`: the "
        "caller is unknown.",
    ),
    409: (
        RefusedSerializer,
        "`worker_pause_unchanged`: it is paused just so already. `worker_pause_not_paused`. "
        "`worker_pause_not_drained`: something is still running, see `metrics`.",
    ),
}


class ActorMissing(exceptions.PermissionDenied):
    """Nobody could be named as the one who acted."""

    default_code = "worker_pause_actor_missing"
    default_detail = "Cannot operate the fleet: the caller is unknown."


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """As for every view, with the codes of this endpoint."""
    response = errors.handle(error, context)
    if response is not None and isinstance(response.data, dict):
        code = response.data.get("code")
        response.data["code"] = _CODES.get(str(code), code)
    return response


class FleetView(ControlView):
    """A view for operators of the fleet; what nobody signed in for is done in the name of ``open_to``, if set."""

    permission_classes = [MayUseFleet]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS and not self.actor.name:
            raise ActorMissing

    @property
    def actor(self) -> Actor:
        user, default = self.request.user, conf.settings().open_to
        if not user.is_authenticated and default:
            known = get_user_model()._default_manager.filter(**{get_user_model().USERNAME_FIELD: default}).first()
            return Actor(f"user:{default}", self.channel, self.request_id, str(known.pk) if known else "")
        name = getattr(user, "get_username", str)()
        return super().actor if name else Actor("", self.channel, self.request_id)


class WorkerPause(FleetView):
    """The switch."""

    idempotency_field = "idempotencyKey"

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return handle

    @extend_schema(
        operation_id="show_worker_pause",
        summary="Show whether the fleet is paused, what is still running, and who has obeyed",
        parameters=[SnapshotQuery, schema.REQUEST_ID],
        responses=schema.answers({200: SnapshotSerializer}, *schema.READS, 500, table=_ANSWERS),
        tags=["system"],
    )
    def get(self, request: Request) -> Response:
        return self._snapshot(self.query(SnapshotQuery)["latest"])

    @extend_schema(
        operation_id="set_worker_pause",
        summary="Pause the fleet, change the pause, or resume",
        description="`drain`: what is leased and every running task continues to its end, nothing new starts. "
        "`quiesce`: it stops at its next item. A pause over a pause with another mode, reason or deadline changes it.",
        parameters=schema.COMMAND,
        request=WorkerPauseSerializer,
        responses=schema.answers({200: SnapshotSerializer}, *schema.COMMANDS, 500, table=_ANSWERS),
        tags=["system"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = self.body(WorkerPauseSerializer)
        try:
            self._carry_out(given, key_of(self, request) or "")
        except FleetRefused as refusal:
            # Returned, not raised: the refusal is on record, and that must stand.
            state = fleet_state.read()
            more = {"system": state.as_dict(), "metrics": drain.measure(state.mode).as_dict()}
            return errors.answer(status.HTTP_409_CONFLICT, refusal.code, str(refusal), **more)
        return self._snapshot()

    def _carry_out(self, given: dict[str, Any], key: str) -> None:
        reason, confirmation = given["reason"], given["confirmation"]
        if given["action"] == "resume":
            fleet.resume(reason=reason, actor=self.actor, force=given["forceResume"], confirmation=confirmation)
            return
        seconds = given.get("deadlineSeconds")
        fleet.pause(
            mode=given["mode"],
            reason=reason,
            actor=self.actor,
            deadline=None if seconds is None else timedelta(seconds=seconds),
            idempotency_key=key,
            confirmation=confirmation,
        )

    def _snapshot(self, latest: int = 5) -> Response:
        may_see_work = may_operate(self.request.user)
        agents = None if may_see_work else workloads.visible_agents(self.request.user)
        return Response(fleet.snapshot(latest=latest, with_blockers=may_see_work, agents=agents))
