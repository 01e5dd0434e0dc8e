"""``manage.py create_agent``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError

from automation import agents
from automation.errors import UnknownPipeline
from automation.management.run_command import CommandRefused, Exit, RunCommand
from automation.models import Account, Agent, Site
from automation.pipeline import get_pipeline
from pause_manager.actor import Actor


class Command(RunCommand):
    """Calls ``agents.issue``; only the token goes to stdout, so that a script can store it."""

    help = "Create a remote agent, or replace its token, and print the token: it is not shown again."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage or input
  3    refused: an agent of that name exists; nothing was changed
  4    no such agent, account or site
"""

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the agent")
        parser.add_argument("--account", default="", help="account whose runs it works for; required without --site")
        parser.add_argument("--site", default="", help="slug of the only site whose runs it works for")
        parser.add_argument("--pipeline", action="append", default=[], help="pipeline it works for; may be repeated")
        parser.add_argument("--node", default="", help="node of its machine (default: the agent's name)")
        parser.add_argument("--rotate", action="store_true", help="replace its token; the old one stops working")
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def run_command(self, **options: Any) -> Exit:
        name = options["name"]
        try:
            agent = self._known(name) if options["rotate"] else self._new(options)
            token = agents.issue(agent, actor=Actor.shell(), reason=options["reason"])
        except ValidationError as error:
            raise CommandRefused(f"Cannot create the agent: {' '.join(error.messages)}", Exit.USAGE, "usage") from None
        except UnknownPipeline as error:
            raise CommandRefused(str(error), Exit.USAGE, error.code) from None
        self.line({"agent": name, "token": token} if options["json"] else token)
        return Exit.OK

    def _known(self, name: str) -> Agent:
        agent = Agent.objects.select_related("account", "site").filter(name=name).first()
        if agent is None:
            raise _not_found(f"agent {name}")
        return agent

    def _new(self, options: dict[str, Any]) -> Agent:
        name = options["name"]
        if Agent.objects.filter(name=name).exists():
            sentence = f"Cannot create agent {name}: it exists. --rotate replaces its token."
            raise CommandRefused(sentence, Exit.REFUSED, "agent_exists")
        site = Site.objects.select_related("account").filter(slug=options["site"]).first()
        if options["site"] and site is None:
            raise _not_found(f"site {options['site']!r}")
        account = site.account if site else Account.objects.filter(name=options["account"]).first()
        if options["account"] and account is None:
            raise _not_found(f"account {options['account']!r}")
        if account is None or (options["account"] and account.name != options["account"]):
            sentence = "Cannot create the agent: expected --account, or --site of that account."
            raise CommandRefused(sentence, Exit.USAGE, "usage")
        for slug in options["pipeline"]:
            get_pipeline(slug)
        agent = Agent(
            name=name, account=account, site=site, pipelines=options["pipeline"], node=options["node"] or name
        )
        agent.full_clean(exclude=["token_hash"])
        return agent


def _not_found(what: str) -> CommandRefused:
    return CommandRefused(f"Cannot find {what}: it does not exist.", Exit.NOT_FOUND, "not_found")
