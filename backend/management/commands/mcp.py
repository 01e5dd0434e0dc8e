"""``manage.py mcp``: the MCP tools over stdin and stdout, for an assistant that starts this command."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from backend.mcp import authentication
from backend.mcp.server import serve_stdio


class Command(BaseCommand):
    """Acts as the user named by ``--user``, or as the owner of the token in ``SLACKWATER_MCP_TOKEN``."""

    help = (
        "Serve the MCP tools over stdin and stdout, for an assistant that starts this command (see docs/howto/mcp.md)."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="NAME", help="act as this user")

    def handle(self, **options: Any) -> None:
        if options["user"]:
            identify = partial(authentication.of_name, options["user"])
        elif settings.MCP_TOKEN:
            identify = partial(authentication.of_token, settings.MCP_TOKEN)
        else:
            raise CommandError("Cannot start: expected --user NAME or a token in SLACKWATER_MCP_TOKEN.")
        try:
            identify()
        except authentication.NotAdmitted as refusal:
            raise CommandError(str(refusal)) from None
        asyncio.run(serve_stdio(identify))
