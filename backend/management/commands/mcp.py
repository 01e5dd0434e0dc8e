"""``manage.py mcp``: the tools for an assistant that starts this command, over stdin and stdout."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from backend.mcp import callers


class Command(BaseCommand):
    """Acts as the user that ``--user`` names, or as whoever has the token in ``SLACKWATER_MCP_TOKEN``."""

    help = (
        "Serve the MCP tools over stdin and stdout, for an assistant that starts this command (see docs/howto/mcp.md)."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="NAME", help="act as this user")

    def handle(self, **options: Any) -> None:
        from backend.mcp.server import serve_stdio

        if options["user"]:
            identify = partial(callers.of_name, options["user"])
        elif settings.MCP_TOKEN:
            identify = partial(callers.of_token, settings.MCP_TOKEN)
        else:
            raise CommandError("Cannot tell who acts: expected --user NAME or a token in SLACKWATER_MCP_TOKEN.")
        try:
            identify()
        except callers.NotAdmitted as refusal:
            raise CommandError(str(refusal)) from None
        asyncio.run(serve_stdio(identify))
