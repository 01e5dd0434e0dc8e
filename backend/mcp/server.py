"""The MCP server: lists the caller's tools, and calls them."""

from __future__ import annotations

import json
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as ToolDescription

from backend.mcp import schemas
from backend.mcp.authentication import Identify, NotAdmitted
from backend.mcp.invoke import invoke
from backend.mcp.tools import TOOLS, Tool

INSTRUCTIONS = (
    "Slackwater runs pipelines on a fleet of Celery workers and pauses them without losing work. Look before you act: "
    "runs.explain says why a run waits, fleet.status what a fleet command would do. A refusal has a code for machines "
    "and a sentence for people; it has changed nothing."
)


def make_server(identify: Identify) -> Server[Any]:
    """Return a server that acts as the caller that ``identify`` returns."""

    async def list_tools(context: ServerRequestContext, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=await sync_to_async(_listed)(identify), cache_scope="private")

    async def call_tool(context: ServerRequestContext, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Cannot call {params.name!r:.80}: there is no such tool.")
        # Thread-sensitive: uses the database connection of the request; over stdio, all calls share one.
        refused, body = await sync_to_async(invoke)(tool, identify, params.arguments or {})
        return _result(refused, body)

    return Server(
        "slackwater",
        version=str(settings.SPECTACULAR_SETTINGS["VERSION"]),
        title="Slackwater",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve_stdio(identify: Identify) -> None:
    """Serve the process that started this one until it closes our stdin."""
    server = make_server(identify)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _listed(identify: Identify) -> list[ToolDescription]:
    try:
        is_agent = identify().is_agent
    except NotAdmitted as refusal:
        raise MCPError(INVALID_REQUEST, str(refusal), refusal.response.data) from None
    return [_described(tool) for tool in TOOLS.values() if tool.for_agents == is_agent]


def _described(tool: Tool) -> ToolDescription:
    return ToolDescription(
        name=tool.name,
        title=tool.title,
        description=tool.description.strip(),
        input_schema=schemas.takes(tool),
        output_schema=schemas.gives(tool),
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.reads,
            destructive_hint=tool.is_destructive,
            idempotent_hint=tool.reads or tool.is_idempotent,
            open_world_hint=False,
        ),
    )


def _result(refused: bool, body: dict[str, Any]) -> CallToolResult:
    text = f"{body['message']} ({body['code']})" if refused else json.dumps(body, ensure_ascii=False)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=body, is_error=refused)
