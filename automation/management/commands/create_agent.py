"""``manage.py create_agent``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from automation import agents
from automation.errors import UnknownPipeline
from automation.models import Account, Agent, Site
from automation.pipeline import get_pipeline
from pause_manager.management.shell import shell_actor


class Command(BaseCommand):
    """Calls ``agents.issue``; the token is all that goes to stdout, so that a script can keep it."""

    help = "Make a remote agent, or give it a new token, and print the token: it is shown only now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--account", default="", help="whose runs it works for; needed unless --site is given")
        parser.add_argument("--site", default="", help="slug of the one site whose runs it works for")
        parser.add_argument("--pipeline", action="append", default=[], help="may be repeated")
        parser.add_argument("--node", default="", help="its machine (default: the agent's name)")
        parser.add_argument(
            "--rotate", action="store_true", help="a new token for the agent there is; the old one ends"
        )
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            agent = self._known(options["name"]) if options["rotate"] else self._new(options)
            token = agents.issue(agent, actor=shell_actor(), reason=options["reason"])
        except ValidationError as error:
            raise CommandError(f"Cannot make the agent: {' '.join(error.messages)}") from None
        except UnknownPipeline as error:
            raise CommandError(str(error)) from None
        self.stdout.write(token)

    def _known(self, name: str) -> Agent:
        agent = Agent.objects.select_related("account", "site").filter(name=name).first()
        if agent is None:
            raise CommandError(f"Cannot find agent {name}: there is none.")
        return agent

    def _new(self, options: dict[str, Any]) -> Agent:
        site = Site.objects.select_related("account").filter(slug=options["site"]).first()
        if options["site"] and site is None:
            raise CommandError(f"Cannot find site {options['site']!r}: there is none.")
        account = site.account if site else Account.objects.filter(name=options["account"]).first()
        if account is None or (options["account"] and account.name != options["account"]):
            raise CommandError("Cannot make the agent: expected an account that exists, or a site of it.")
        for slug in options["pipeline"]:
            get_pipeline(slug)
        agent = Agent(
            name=options["name"],
            account=account,
            site=site,
            pipelines=options["pipeline"],
            node=options["node"] or options["name"],
        )
        agent.full_clean(exclude=["token_hash"])
        return agent
