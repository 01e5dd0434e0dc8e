"""``/api/queue/jobs/``: the pull protocol over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.authentication import TokenAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from automation import agents, conf
from automation.agents import protocol
from automation.api import errors
from automation.api.agents import serializers as bodies
from automation.api.agents.authentication import AgentAuthentication
from automation.api.permissions import IsAgent
from automation.errors import JobNotFound
from automation.models import Agent
from automation.pipeline import FreezeLane
from pause_manager.actor import Actor
from pause_manager.api.http import schema
from pause_manager.api.http.base import ControlView
from pause_manager.capacity.snapshot import GpuView, NodeView
from pause_manager.holds import fleet_state
from pause_manager.models import clock

_TEXTS = {code: (bodies.JobErrorSerializer, text) for code, (_, text) in schema.ANSWERS.items()}
_ANSWERS: dict[int, schema.Answer] = {
    **_TEXTS,
    400: (bodies.JobInvalidSerializer, "The request, or the submission, is wrong; nothing was stored."),
    401: (bodies.JobErrorSerializer, "No token, or one that no agent has."),
    403: (bodies.JobErrorSerializer, "`agent_required`: it is no agent's token. `agent_disabled`."),
    404: (bodies.JobErrorSerializer, "`job_not_found`: there is none that the agent may hold."),
    409: (
        bodies.JobErrorSerializer,
        "`lease_lost`: it is not held under this token (any more). `checkpoint_conflict`: something else is committed "
        "up to this cursor. `job_incomplete`: items are left.",
    ),
}
_READ = (400, 401, 403, 404, 409, 429, 500)
_COMMAND = (*_READ, 411, 413, 415)
LONGEST_ID = 19
_JOB_ID = OpenApiParameter("job_id", OpenApiTypes.INT64, OpenApiParameter.PATH, description="From the claim's answer.")
_HERE = [_JOB_ID, schema.REQUEST_ID]


class JobView(ControlView):
    """A view for agents. Every response has ``system``."""

    authentication_classes = [AgentAuthentication, TokenAuthentication]
    permission_classes = [IsAgent]

    @property
    def agent(self) -> Agent:
        assert isinstance(self.request.auth, Agent)
        return self.request.auth

    @property
    def actor(self) -> Actor:
        return agents.actor_of(self.agent, channel=self.channel, request_id=self.request_id)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.max_body_bytes = conf.settings().max_json_bytes
        super().initial(request, *args, **kwargs)

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return self._refuse

    def _refuse(self, error: Exception, context: dict[str, Any]) -> Response | None:
        response = errors.handle(error, context)
        if response is None or not isinstance(response.data, dict):
            return response
        # Reading the agent may be what failed.
        agent = getattr(context["request"], "_auth", None)
        if isinstance(agent, Agent):
            response.data["system"] = agents.system_block(agent)
        elif response.status_code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
            response.data["system"] = fleet_state.unreadable().as_dict()
        return response


class Claim(JobView):
    """Jobs."""

    @extend_schema(
        operation_id="claim_job",
        summary="Lease a job",
        description="While the fleet is paused `job` is null, which is not an error: retry after the pause interval.",
        parameters=[schema.REQUEST_ID],
        request=bodies.ClaimSerializer,
        responses=schema.answers({200: bodies.ClaimAnswer}, *set(_COMMAND) - {404, 409}, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request) -> Response:
        given = self.body(bodies.ClaimSerializer)
        sample = given.get("sample")
        answer = protocol.claim(
            self.agent,
            claim_id=given.get("claimId", ""),
            stages=given.get("stages", ()),
            limit=given["maxItems"],
            view=_view(self.agent.node, sample) if sample is not None else None,
        )
        return Response(answer)


def _view(node: str, sample: dict[str, Any]) -> NodeView:
    return NodeView(
        name=node,
        sampled_at=clock.database_now().timestamp(),
        cores=sample["cores"],
        foreign_cores=sample["foreignCores"],
        memory_mib=sample["memoryMib"],
        free_memory_mib=sample["freeMemoryMib"],
        gpus=tuple(
            GpuView(
                index=gpu["index"],
                total_mib=gpu["totalMib"],
                free_mib=gpu["freeMib"],
                utilisation=gpu.get("utilisation"),
                name=gpu.get("name", ""),
                uuid=gpu.get("uuid", ""),
                problem="" if gpu["freeMib"] is not None else "the agent cannot read its free memory",
            )
            for gpu in sample.get("gpus", ())
        ),
    )


class OneJob(JobView):
    """A job that the agent holds."""

    def job_id(self) -> int:
        """Return the id in the path, or raise ``JobNotFound``."""
        text = str(self.kwargs["job_id"])  # MCP passes a number
        if not (text.isascii() and text.isdecimal() and len(text) < LONGEST_ID):
            raise JobNotFound(f"Cannot find job {text[:64]}: there is none that this agent may hold.")
        return int(text)


class Heartbeat(OneJob):
    """The lease of a job."""

    @extend_schema(
        operation_id="heartbeat_job",
        summary="Keep the lease, and hear whether to stop",
        parameters=_HERE,
        request=bodies.TokenSerializer,
        responses=schema.answers({200: bodies.HeartbeatAnswer}, *_COMMAND, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        return Response(protocol.heartbeat(self.agent, self.job_id(), self.body(bodies.TokenSerializer)["token"]))


class Items(OneJob):
    """The items of a job."""

    @extend_schema(
        operation_id="list_job_items",
        summary="List the items of a job that are left, in order",
        parameters=[_JOB_ID, bodies.ItemPageQuery, schema.REQUEST_ID],
        responses=schema.answers({200: bodies.JobItemsSerializer}, *_READ, table=_ANSWERS),
        tags=["agents"],
    )
    def get(self, request: Request, job_id: str) -> Response:
        query = self.query(bodies.ItemPageQuery)
        answer = protocol.items(
            self.agent, self.job_id(), query["token"], after=query.get("after", ""), limit=query["limit"]
        )
        return Response(answer)


class Checkpoint(OneJob):
    """Work that is done."""

    @extend_schema(
        operation_id="checkpoint_job",
        summary="Commit what is done, all of it or nothing",
        description="The same again, after a lost answer, is answered as done. With its last item the job is finished.",
        parameters=_HERE,
        request=bodies.CheckpointSerializer,
        responses=schema.answers({200: bodies.CheckpointAnswer}, *_COMMAND, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        given = self.body(bodies.CheckpointSerializer)
        job, token, submission = self.job_id(), given["token"], given["submission"]
        return Response(protocol.commit(self.agent, job, token, submission, actor=self.actor, release=given["release"]))


class Complete(OneJob):
    """The end of a job."""

    @extend_schema(
        operation_id="complete_job",
        summary="Commit what ends the job",
        description="As a checkpoint whose cursor is the last item; refused while items are left.",
        parameters=_HERE,
        request=bodies.SubmissionSerializer,
        responses=schema.answers({200: bodies.CheckpointAnswer}, *_COMMAND, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        given = self.body(bodies.SubmissionSerializer)
        job, token, submission = self.job_id(), given["token"], given["submission"]
        return Response(protocol.complete(self.agent, job, token, submission, actor=self.actor))


class Fail(OneJob):
    """The failure of a job."""

    @extend_schema(
        operation_id="fail_job",
        summary="Give the job back as it was last committed",
        description="Without `retryAfter` it counts like a lost worker: the item after the cursor is given up after "
        "three in a row.",
        parameters=_HERE,
        request=bodies.JobFailSerializer,
        responses=schema.answers({200: bodies.SystemAnswer}, *_COMMAND, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        given = self.body(bodies.JobFailSerializer)
        job, token, error = self.job_id(), given["token"], given["error"]
        return Response(
            protocol.fail(
                self.agent,
                job,
                token,
                error,
                actor=self.actor,
                retry_after=given.get("retryAfter"),
                resource=given.get("resource"),
            )
        )


class Ask(OneJob):
    """A question about a job."""

    @extend_schema(
        operation_id="ask_about_job",
        summary="Ask a person about the item after the cursor",
        description="Holds the run until the question is answered, and gives the job back as it was last committed. "
        "Nothing counts as failed; the agent that gets the item then gets the `answer` with it.",
        parameters=_HERE,
        request=bodies.JobAskSerializer,
        responses=schema.answers({200: bodies.SystemAnswer}, *_COMMAND, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        given = self.body(bodies.JobAskSerializer)
        return Response(protocol.ask(self.agent, self.job_id(), given["token"], given["asked"]))


class Freeze(OneJob):
    """The freeze of a lane because of a job."""

    @extend_schema(
        operation_id="freeze_lane_of_job",
        summary="Freeze the lane of the run because of the item after the cursor",
        description="Nothing of the lane starts until an operator lifts the freeze. The job is given back as it was "
        "last committed, and the item is tried again then.",
        parameters=_HERE,
        request=bodies.JobFreezeSerializer,
        responses=schema.answers({200: bodies.SystemAnswer}, *_COMMAND, table=_ANSWERS),
        tags=["agents"],
    )
    def post(self, request: Request, job_id: str) -> Response:
        given = self.body(bodies.JobFreezeSerializer)
        return Response(protocol.ask(self.agent, self.job_id(), given["token"], FreezeLane(given["reason"])))
