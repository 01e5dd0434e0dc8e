"""Every URL of the system against every kind of caller, by real requests; a URL without a row fails."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, path
from drf_spectacular.generators import SchemaGenerator

from tests.support.api_users import VIEW, make_user
from tests.support.url_table import EVERY_METHOD, GROUPS, SECTIONS, Access, Row

pytestmark = pytest.mark.django_db

TABLE = [row for rows in SECTIONS.values() for row in rows]


def walk(patterns: Iterable[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Every URL as the resolver has it."""
    for one in patterns:
        route = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from walk(one.url_patterns, route)
        else:
            yield route


def differences(patterns: Iterable[URLPattern | URLResolver]) -> tuple[set[str], set[str]]:
    """URLs without a row, rows without a URL."""
    urls = {url for url in walk(patterns) if not url.startswith(GROUPS)}
    rows = {row.url for row in TABLE}
    return urls - rows, rows - urls


@pytest.fixture(autouse=True)
def _heartbeats_exist_and_metrics_need_a_token(settings: Any) -> None:
    from backend import heartbeats

    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "metrics_token": "only-for-this-test"}
    for who in (heartbeats.BEAT, heartbeats.CONTROL):
        assert heartbeats.record(who)


@pytest.fixture
def run(site: Any, their_site: Any) -> Any:
    from tests.support.factories import make_run

    make_run(site=their_site, start=False)
    run = make_run(site=site)
    default_storage.save(f"runs/{run.pk}/few/notes.md", ContentFile(b"ours"))
    return run


@pytest.fixture
def world(run: Any) -> dict[str, str]:
    """What stands for the angle brackets of a URL."""
    from automation.contrib.credits import ledger
    from automation.models import Agent, Site
    from pause_manager.models import PauseQueueEntry
    from tests.support.factories import OPERATOR, make_run
    from tests.support.node_factories import make_node
    from tests.support.schedules import make_schedule
    from tests.support.windows import make_window

    entry = PauseQueueEntry.objects.create(ref=run.scope, task_name="none", queue="stages", reason="full")
    annex = Site.objects.create(account=run.site.account, slug="annex", name="Annex")
    agent = Agent.objects.create(
        name="helper", account=run.site.account, pipelines=["remote"], node="n", token_hash="-"
    )
    job = make_run("remote", site=annex, items=1).stages.get(position=0).slices.get()
    paid = ledger.top_up(run.site.account, 1_000, key="paid", actor=OPERATOR)
    return {
        "account_id": str(run.site.account_id),
        "transfer_id": str(paid.pk),
        "site_id": run.site.slug,
        "job_id": str(job.pk),
        "run_id": str(run.pk),
        "window": make_window("queue:night").name,
        "schedule_id": str(make_schedule(run.site).pk),
        "entry_id": str(entry.pk),
        "agent_id": make_node("here").name,
        "node": "nowhere",
        "number": "2026-99999",
        "resource": "nowhere",
        "lane": run.lane,
        "called": str(run.pk)[:8],
        "name": "few/notes.md",
        "rest": "nowhere",
        "pipeline": "few",
        "agent": agent.name,
        "override_id": "1",
        "provider": "stripe",
    }


def of_role(name: str, site: Any, role: str) -> Any:
    """One who has what the group gives and nothing else."""
    from django.contrib.auth.models import Group

    from backend import roles

    list(roles.prepare())
    user = make_user(name, site)
    user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def clients(site: Any, their_site: Any) -> dict[str, Client]:
    """By the caller's name in :class:`Access`, their client: people have a token and are signed in as well."""
    from django.contrib.auth.models import Permission, User
    from rest_framework.authtoken.models import Token

    from backend.roles import FLEET_OPERATORS, OPERATORS, VIEWERS

    blind = make_user("bob", site)
    blind.user_permissions.add(Permission.objects.get(codename=VIEW))
    people = {
        "member": make_user("mary", site),
        "viewer": of_role("victor", site, VIEWERS),
        "blind": blind,
        "operator": of_role("alice", site, OPERATORS),
        "stranger": of_role("sam", their_site, OPERATORS),
        "fleet": of_role("fred", None, FLEET_OPERATORS),
        "superuser": User.objects.create_superuser("root"),
    }
    found = {"anonymous": Client(), "agent": Client(headers={"Authorization": f"Agent {token_of(site)}"})}
    for name, user in people.items():
        found[name] = Client(headers={"Authorization": f"Token {Token.objects.create(user=user).key}"})
        found[name].force_login(user)
    return found


def token_of(site: Any) -> str:
    from tests.support.agent_calls import make_agent

    return make_agent(account=site.account)[1]


def send(client: Client, method: str, url: str, world: dict[str, str], query: str = "", body: Any = None) -> Any:
    """The answer to a request, at ``url`` filled in from the world."""
    filled = re.sub(r"<\w+:(\w+)>", lambda match: world[match[1]], f"/{url}{query}")
    if method == "GET":
        return client.get(filled)
    if method == "POST" and not url.startswith(("api/", "mcp")):
        return client.post(filled, body or {})
    text = "" if body is None else json.dumps(body)
    headers = {"Accept": "application/json, text/event-stream, */*;q=0.1"}
    return client.generic(method, filled, text, content_type="application/json", headers=headers)


def trace(run: Any) -> Any:
    """All that a refused request must leave as it was."""
    from automation.models import AutomationRun
    from pause_manager.models import ControlState, Hold, PauseQueueEntry
    from tests.support.factories import rows

    counts = [model.objects.count() for model in (AutomationRun, Hold)]
    waiting = PauseQueueEntry.objects.waiting().count()
    return rows(run), counts, waiting, list(ControlState.objects.values())


@lru_cache(maxsize=1)
def documented() -> dict[str, Any]:
    """The paths of the OpenAPI document."""
    paths: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    return paths


def named(url: str) -> str:
    """``url`` as the OpenAPI document has it."""
    return "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", url)


def test_every_url_has_a_row_and_every_row_a_url() -> None:
    assert differences(get_resolver().url_patterns) == (set(), set())


def test_a_new_url_without_a_row_is_told() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("secret")

    patterns = [*get_resolver().url_patterns, path("api/v1/new/<int:number>/", view)]

    assert differences(patterns) == ({"api/v1/new/<int:number>/"}, set())
    assert differences(patterns[1:])[1] == {"healthz"}


def test_the_openapi_document_has_every_endpoint_and_no_other() -> None:
    of_itself = ("api/schema/", "api/docs/")
    ours = {(row.method, named(row.url)) for row in TABLE if row.url.startswith("api/")}
    ours -= {(method, url) for method, url in ours if "{rest}" in url or url[1:] in of_itself}

    assert {(method.upper(), url) for url, methods in documented().items() for method in methods} == ours


@pytest.mark.req("A-36", "W-36")
@pytest.mark.parametrize("rows", SECTIONS.values(), ids=SECTIONS)
def test_each_caller_gets_what_the_table_says(rows: list[Row], run: Any, world: dict[str, str], clients: Any) -> None:
    found, before = {}, trace(run)
    for row in rows:
        for caller in Access._fields:
            with transaction.atomic():
                answer = send(clients[caller], row.method, row.url, world, row.query, row.body)
                found[f"{caller}: {row}"] = answer.status_code
                check(answer, row, caller, run)
                if answer.status_code not in (200, 201) or row.method == "GET":
                    assert trace(run) == before, f"{caller}: {row}"
                transaction.set_rollback(True)

    expected = {f"{caller}: {row}": getattr(row.access, caller) for row in rows for caller in Access._fields}
    assert {name: (found[name], expected[name]) for name in found if found[name] != expected[name]} == {}


def check(answer: Any, row: Row, caller: str, run: Any) -> None:
    """A refusal says what it is, as documented; a stranger is shown nothing of ours."""
    operation = documented().get(named(row.url), {}).get(row.method.lower())
    if operation is not None:
        assert str(answer.status_code) in operation["responses"], caller
    if row.url.startswith("api/") and answer.status_code in (401, 404) and answer["Content-Type"] == "application/json":
        expected = {401: "not_authenticated", 404: "not_found"}[answer.status_code]
        assert answer.json()["code"].removeprefix("job_") == expected, f"{caller}: {row}"
    if caller == "agent" and answer.status_code == 403 and row.url.startswith("api/v1/"):
        assert answer.json()["code"] == "agent_forbidden", row
    if answer.status_code == 302 and caller == "anonymous" and row.access.viewer != 302:
        assert answer["Location"].startswith("/sign-in/?next=")
    if caller == "stranger" and not answer.streaming and str(run.pk) not in answer.wsgi_request.get_full_path():
        assert str(run.pk) not in answer.content.decode()


def test_no_url_takes_a_method_that_has_no_row(world: dict[str, str], clients: Any) -> None:
    found = {}
    for url in {row.url for row in TABLE}:
        rows = [row for row in TABLE if row.url == url]
        caller = "agent" if rows[0].access.superuser == 403 else "superuser"
        for method in set(EVERY_METHOD) - {row.method for row in rows}:
            found[f"{method} {url}"] = send(clients[caller], method, url, world).status_code
        if rows[0].access.anonymous == 401 and url.startswith("api/"):
            for method in ("HEAD", "OPTIONS"):
                assert send(clients["anonymous"], method, url, world).status_code == 401, method

    assert {name: status for name, status in found.items() if status != 405} == {}


ADMIN = sorted({url for url in walk(get_resolver().url_patterns) if url.startswith("admin/")})
ADMIN_FOR_ALL = {"admin/login/", "admin/logout/"}


MOST_TELLING = ("anonymous", "operator", "agent")
"""Of those who are not of the staff: one who is not signed in, one who may the most, and one by another token."""
OTHERS = sorted(set(Access._fields) - {"superuser", *MOST_TELLING})


@pytest.mark.parametrize(
    "callers", [MOST_TELLING, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["most telling", "others"]
)
def test_the_admin_is_for_staff_alone(run: Any, clients: Any, callers: Sequence[str]) -> None:
    before = trace(run)
    for url in set(ADMIN) - ADMIN_FOR_ALL:
        filled = re.sub(r"<\w+:\w+>", "1", url)
        filled = "admin/nowhere/" if "(?P<" in filled else re.sub(r"[\^$]", "", filled)
        for caller in callers:
            for method in ("GET", "POST"):
                answer = send(clients[caller], method, filled, {})
                assert answer.status_code == 302, (url, caller, method)
                assert answer["Location"].startswith("/admin/login/"), (url, caller, method)
    assert trace(run) == before
