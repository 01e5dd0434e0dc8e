"""``manage.py close``: stop a site or an account from taking new runs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation.errors import ClosingRefused
from automation.management.places import add_place, place_of
from automation.management.run_command import CommandRefused, Exit, RunCommand
from automation.models import Site
from automation.retention import closure
from pause_manager.actor import Actor


class Command(RunCommand):
    """Calls ``closure``; ``purge`` removes the data."""

    help = "Close a site or an account, so that it takes no new runs; or open it again. Its data stay (see purge)."

    def arguments(self, parser: ArgumentParser) -> None:
        add_place(parser, is_required=True)
        parser.add_argument("--cancel-runs", action="store_true", help="cancel its unfinished runs with it")
        parser.add_argument("--reopen", action="store_true", help="open it again")
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def run_command(self, **options: Any) -> Exit:
        place = place_of(options)
        assert place is not None
        who = {"actor": Actor.shell(), "reason": options["reason"]}
        name = f"Site {place.slug}" if isinstance(place, Site) else f"Account {place.name}"
        if options["reopen"]:
            changed, now = closure.reopen(place, **who), "open"
        else:
            close: Any = closure.close_site if isinstance(place, Site) else closure.close_account
            try:
                changed, now = close(place, **who, cancels_runs=options["cancel_runs"]), "closed"
            except ClosingRefused as error:
                raise CommandRefused(str(error), Exit.REFUSED, error.code) from error
        facts = {"site": options["site"], "account": options["account"], "is_closed": now == "closed"}
        self.line({**facts, "changed": changed} if options["json"] else f"{name} is {now}.")
        return Exit.OK
