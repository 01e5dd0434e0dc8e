"""Options of commands that name a site or an account."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation.management.run_command import CommandRefused, Exit
from automation.models import Account, Site


def add_place(parser: ArgumentParser, *, is_required: bool) -> None:
    """Add ``--site`` and ``--account``."""
    group = parser.add_mutually_exclusive_group(required=is_required)
    group.add_argument("--site", metavar="SLUG", default="", help="slug of a site")
    group.add_argument("--account", metavar="NAME", default="", help="name of an account: all of its sites")


def place_of(options: dict[str, Any]) -> Site | Account | None:
    """Return the named site or account, or ``None``."""
    found: Site | Account | None
    if options["site"]:
        name, found = f"site {options['site']}", Site.objects.filter(slug=options["site"]).first()
    elif options["account"]:
        name, found = f"account {options['account']}", Account.objects.filter(name=options["account"]).first()
    else:
        return None
    if found is None:
        raise CommandRefused(f"Cannot find {name}: it does not exist.", Exit.NOT_FOUND, "not_found")
    return found
