"""The operator's desk: a process inside the fleet's environment that does what it is told on standard input.

One JSON object a line, ``{"verb": …, …}``, answered by one; a refusal or error is answered as ``{"error": …}``.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import django
from django.db import connection

ACTOR_NAME = "user:chaos"


def create(params: dict[str, Any], *, start: bool = True, pipeline: str = "chaos") -> dict[str, Any]:
    from automation.models import Account, Lane, Site
    from automation.runs import creation

    account, _ = Account.objects.get_or_create(name="Chaos")
    site, _ = Site.objects.get_or_create(slug="chaos", defaults={"account": account, "name": "Chaos"})
    Lane.objects.get_or_create(name=site.slug, defaults={"width": 1_000})
    run = creation.create(pipeline, site=site, actor=actor(), params=params, start=start)
    return {"id": str(run.pk)}


def verb(name: str, run: str) -> dict[str, Any]:
    from automation.runs import lifecycle

    getattr(lifecycle, name)(UUID(run), actor=actor(), reason="chaos")
    return look(run)


def start(run: str) -> dict[str, Any]:
    return verb("start_run", run)


def token() -> dict[str, Any]:
    """A token for the REST API that may do everything."""
    from django.contrib.auth.models import User
    from rest_framework.authtoken.models import Token

    user, _ = User.objects.get_or_create(username="chaos", defaults={"is_superuser": True})
    return {"token": Token.objects.get_or_create(user=user)[0].key}


def look(run: str) -> dict[str, Any]:
    """Status and progress as everybody sees them."""
    from automation.models import AutomationRun
    from automation.reports import progress

    found = AutomationRun.objects.with_leases().get(pk=run)
    return {"lifecycle": found.lifecycle, **progress.snapshot(found)}


def reasons(run: str) -> dict[str, Any]:
    """Why nothing of it moves, if anything keeps it."""
    from automation import gate
    from automation.models import AutomationRun

    return {"reasons": [reason.sentence for reason in gate.explain(AutomationRun.objects.get(pk=run))]}


def fetch(run: str, names: list[str]) -> dict[str, Any]:
    """What the console's view answers for each file of the run: status and text, or size of what is no text."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get_or_create(username="chaos", defaults={"is_superuser": True})[0])
    found: dict[str, Any] = {}
    for name in names:
        answer = client.get(f"/runs/{run}/files/{name}")
        body = answer.getvalue()
        is_text = answer.get("Content-Type", "").startswith("text/")
        found[name] = [answer.status_code, body.decode() if is_text else len(body)]
    return {"files": found}


def outputs(run: str) -> dict[str, Any]:
    """Every output of every stage."""
    from automation.models import WorkItem

    made = WorkItem.objects.filter(made_by__run=UUID(run), made_by__position__gte=0).order_by(
        "made_by__position", "key"
    )
    return {"outputs": [[slug, payload] for slug, payload in made.values_list("made_by__slug", "payload")]}


def resume_twice(run: str) -> dict[str, Any]:
    """Two operators resume at the same moment, each over a connection of their own."""
    from automation.errors import TransitionRefused
    from automation.runs import lifecycle

    barrier = threading.Barrier(2)

    def resume(_: int) -> str:
        barrier.wait()
        try:
            lifecycle.resume(UUID(run), actor=actor(), reason="chaos")
        except TransitionRefused:
            return "refused"
        finally:
            connection.close()
        return "resumed"

    with ThreadPoolExecutor(2) as operators:
        return {"answers": list(operators.map(resume, range(2)))}


def fleet_pause(mode: str) -> dict[str, Any]:
    from pause_manager import fleet

    return {"version": fleet.pause(mode=mode, reason="chaos", actor=actor()).version}


def fleet_resume() -> dict[str, Any]:
    """Whether it is drained or not."""
    from pause_manager import fleet

    return {"version": fleet.resume(reason="chaos", actor=actor(), force=True).version}


def actor() -> Any:
    from pause_manager.actor import Actor

    return Actor(ACTOR_NAME, "chaos")


def answer(order: dict[str, Any]) -> dict[str, Any]:
    name = order.pop("verb")
    if name in {"pause", "resume", "cancel"}:
        return verb(name, **order)
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "create": create,
        "token": token,
        "look": look,
        "reasons": reasons,
        "resume_twice": resume_twice,
        "start": start,
        "fleet_pause": fleet_pause,
        "fleet_resume": fleet_resume,
        "fetch": fetch,
        "outputs": outputs,
    }
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
