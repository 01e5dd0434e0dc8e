"""Why a run that does not exist yet would wait, and why an agent gets no work."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from automation.agents import explanation as of_agent
from automation.api import schema
from automation.api.base import AutomationView
from automation.api.runs import selection
from automation.api.schema import READ, answers
from automation.errors import UnknownPipeline
from automation.models import Agent
from automation.models.accounts import accounts_of
from automation.pipeline import get_pipeline
from automation.reports import explanation
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.api.reasons import WaitExplanationSerializer

PIPELINE = OpenApiParameter("pipeline", OpenApiTypes.STR, OpenApiParameter.PATH, description="Slug of a pipeline.")
AGENT = OpenApiParameter("agent", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of an agent.")


class SiteQuery(StrictSerializer):
    """For whom the run would be."""

    site = serializers.CharField(max_length=60, help_text="Slug or id of the site.")


class PipelineExplanation(AutomationView):
    """Why a run that is created now would wait."""

    @extend_schema(
        operation_id="explain_pipeline",
        summary="List every reason why a new run of a pipeline would wait",
        description="For a run that is created now, for the site, with the usual priority. It creates nothing.",
        parameters=[PIPELINE, SiteQuery, schema.REQUEST_ID],
        responses=answers({200: WaitExplanationSerializer}, *READ),
    )
    def get(self, request: Request, pipeline: str) -> Response:
        site = selection.find_site(request.user, self.query(SiteQuery)["site"])
        try:
            found = get_pipeline(pipeline)
        except UnknownPipeline as error:
            raise NotFound(str(error)) from None
        return Response(WaitExplanationSerializer(explanation.of_new_run(found, site).as_dict()).data)


class AgentExplanation(AutomationView):
    """Why an agent gets no work."""

    @extend_schema(
        operation_id="explain_agent",
        summary="List every reason why an agent gets no work",
        description="What a claim that it makes now would meet. It claims nothing.",
        parameters=[AGENT, schema.REQUEST_ID],
        responses=answers({200: WaitExplanationSerializer}, *READ),
    )
    def get(self, request: Request, agent: str) -> Response:
        user: Any = request.user
        agents = Agent.objects.select_related("account", "site")
        visible = agents if user.is_superuser else agents.filter(account__in=accounts_of(user))
        found = visible.filter(name=agent[:63]).first()
        if found is None:
            raise NotFound(f"Cannot find agent {agent[:63]!r}: there is none that you may see.")
        told = of_agent.explain(found).as_dict()
        return Response(WaitExplanationSerializer(told).data)
