"""The operator's desk: a process inside the fleet's environment that does what it is told on standard input.

One JSON object a line, ``{"verb": …, …}``, answered by one; a refusal or error is answered as ``{"error": …}``.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from uuid import UUID

import django
from django.db import connection

ACTOR_NAME = "user:chaos"


def create(params: dict[str, Any], *, start: bool = True) -> dict[str, Any]:
    from automation import lifecycle
    from automation.models import Account, Site

    account, _ = Account.objects.get_or_create(name="Chaos")
    site, _ = Site.objects.get_or_create(slug="chaos", defaults={"account": account, "name": "Chaos"})
    run = lifecycle.create("chaos", site=site, actor=actor(), params=params, start=start)
    return {"id": str(run.pk)}


def verb(name: str, run: str) -> dict[str, Any]:
    from automation import lifecycle

    getattr(lifecycle, name)(UUID(run), actor=actor(), reason="chaos")
    return look(run)


def start(run: str) -> dict[str, Any]:
    return verb("start_run", run)


def look(run: str) -> dict[str, Any]:
    """Status and progress as everybody sees them."""
    from automation import progress
    from automation.models import AutomationRun

    found = AutomationRun.objects.with_leases().get(pk=run)
    return {"lifecycle": found.lifecycle, **progress.snapshot(found)}


def double(run: str) -> dict[str, Any]:
    """Send again, as they were sent, the messages of all tickets that are out."""
    from automation.dispatch import TASK
    from automation.models import Ticket
    from backend.celery import app

    tickets = list(Ticket.objects.filter(stage_run__run=run).values_list("stage_run", "pk", "queue"))
    for stage_run, ticket, queue in tickets:
        app.send_task(TASK, args=(stage_run, ticket), queue=queue)
    return {"sent": len(tickets)}


def actor() -> Any:
    from pause_manager.actor import Actor

    return Actor(ACTOR_NAME, "chaos")


def answer(order: dict[str, Any]) -> dict[str, Any]:
    name = order.pop("verb")
    if name in {"pause", "resume", "cancel"}:
        return verb(name, **order)
    commands = {"create": create, "look": look, "double": double, "start": start}
    return commands[name](**order)


def main() -> None:
    django.setup()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        try:
            said = answer(json.loads(line))
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        connection.close()
        print(json.dumps(said, default=str), flush=True)


if __name__ == "__main__":
    main()
