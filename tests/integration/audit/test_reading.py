"""Reading the audit trail: pages, filters, who sees what, downloads, and that none of it walks over everything."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from pause_manager.api.audit import NEWEST_FIRST
from pause_manager.models import ControlEvent
from pause_manager.observability import audit, audit_export
from pause_manager.observability.audit_export import narrowed
from tests.support.api_users import OPERATE, VIEW, client_of, make_user
from tests.support.factories import OPERATOR, make_run, make_site

pytestmark = pytest.mark.django_db

AUDIT = "/api/v1/audit/"
EXPORT = f"{AUDIT}export/"
READ_ALL = "view_controlevent"


@pytest.fixture
def auditor() -> Any:
    return client_of(make_user("ada", None, READ_ALL))


def body(answer: Any) -> bytes:
    """All that is streamed."""
    return b"".join(answer.streaming_content)


def whole(client: Any, path: str) -> list[dict[str, Any]]:
    found = []
    following: str | None = path
    while following:
        answer = client.get(following)
        assert answer.status_code == 200, answer.content
        found += answer.data["results"]
        following = answer.data["next"]
    return found


def test_pages_are_newest_first_and_miss_none_of_the_same_time(auditor, make_events):
    make_events(20)
    audit.record_each("bulk", [(f"queue:{n}", {}) for n in range(30)], actor=OPERATOR)  # all at one time

    found = whole(auditor, f"{AUDIT}?limit=7")

    expected = list(ControlEvent.objects.order_by("-at", "-id").values_list("pk", flat=True))
    assert [event["id"] for event in found] == expected
    assert len(found) == 50


def test_every_filter_narrows(auditor):
    before = timezone.now()
    audit.record("one", scope="queue:a", actor=OPERATOR, reason="because", before={"n": 1}, after={"n": 2})
    audit.record("two", scope="queue:b", actor=audit_actor("user:bob", "mcp", "request-2"))
    after = timezone.now() + timedelta(seconds=1)

    for query, wanted in (
        ("", ["two", "one"]),
        ("scope=queue:a", ["one"]),
        ("action=two", ["two"]),
        ("actor=user:olga", ["one"]),
        ("channel=mcp", ["two"]),
        ("request_id=request-2", ["two"]),
        (f"since={before:%Y-%m-%dT%H:%M:%S.%fZ}", ["two", "one"]),
        (f"until={before:%Y-%m-%dT%H:%M:%S.%fZ}", []),
        (f"since={after:%Y-%m-%dT%H:%M:%SZ}", []),
        ("scope=queue:a&actor=user:bob", []),
    ):
        assert [event["action"] for event in whole(auditor, f"{AUDIT}?{query}")] == wanted, query
        lines = body(auditor.get(f"{EXPORT}?{query}")).splitlines()
        assert [json.loads(line)["action"] for line in lines] == wanted, query
    one = auditor.get(f"{AUDIT}?action=one").data["results"][0]
    assert (one["actor"], one["channel"], one["reason"], one["request_id"]) == (
        "user:olga",
        "test",
        "because",
        "request-1",
    )
    assert (one["before"], one["after"]) == ({"n": 1}, {"n": 2})


def audit_actor(name: str, channel: str, request_id: str) -> Any:
    from pause_manager.actor import Actor

    return Actor(name, channel, request_id)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "cursor=nonsense", "since=yesterday", "scoop=fleet", "type=xml", "scope=%00"]
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(auditor, query):
    path = EXPORT if query.startswith("type") else AUDIT

    answer = auditor.get(f"{path}?{query}")

    assert answer.status_code == 400
    assert answer.data["code"]
    assert answer.data["message"]


def test_members_see_the_events_of_their_runs_and_auditors_see_all():
    ours, theirs = make_site("ours"), make_site("theirs")
    our_run, their_run = make_run(site=ours, start=False), make_run(site=theirs, start=False)
    audit.record("fleet_paused", scope="fleet", actor=OPERATOR)
    member = client_of(make_user("mia", ours, VIEW))
    operator = client_of(make_user("max", ours, VIEW, OPERATE))
    auditor = client_of(make_user("ada", None, READ_ALL))
    root = client_of(User.objects.create_superuser("root"))

    for client in (member, operator):
        assert {event["scope"] for event in whole(client, AUDIT)} == {our_run.scope}
        assert whole(client, f"{AUDIT}?scope={their_run.scope}") == []
        assert whole(client, f"{AUDIT}?scope=fleet") == []
        exported = body(client.get(EXPORT)).splitlines()
        assert {json.loads(line)["scope"] for line in exported} == {our_run.scope}
    for client in (auditor, root):
        assert {event["scope"] for event in whole(client, AUDIT)} == {our_run.scope, their_run.scope, "fleet"}
    for path in (AUDIT, EXPORT):
        assert client_of(None).get(path).status_code == 401
        assert client_of(make_user(f"nobody{len(path)}", ours)).get(path).status_code == 403


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_spreadsheet_runs_nothing_of_what_people_wrote(auditor, formula):
    audit.record("said", scope="fleet", actor=audit_actor(formula, "api", formula.strip()), reason=formula)

    answer = auditor.get(f"{EXPORT}?type=csv", headers={"Accept": "text/csv"})

    text = body(answer).decode()
    header, line = csv.reader(io.StringIO(text, newline=""))
    assert answer["Content-Type"] == "text/csv"
    assert 'filename="audit-' in answer["Content-Disposition"]
    assert tuple(header) == audit_export.COLUMNS
    cells = dict(zip(header, line, strict=True))
    assert cells["reason"] == cells["actor"] == f"'{formula}"
    assert not any(cell.startswith(audit_export.FORMULA_STARTS) for cell in line)


def test_csv_keeps_quotes_lines_and_structures_whole(auditor):
    reason = 'said "no",\nthen left'
    audit.record("said", scope="fleet", actor=OPERATOR, reason=reason, details={"a": [1, "é"]}, after={"b": None})

    text = body(auditor.get(f"{EXPORT}?type=csv")).decode()

    _, line = csv.reader(io.StringIO(text, newline=""))
    cells = dict(zip(audit_export.COLUMNS, line, strict=True))
    assert cells["reason"] == reason
    assert json.loads(cells["details"]) == {"a": [1, "é"]}
    assert (cells["before"], json.loads(cells["after"])) == ("", {"b": None})


def test_an_empty_export_has_a_header_and_nothing_else(auditor):
    assert body(auditor.get(f"{EXPORT}?type=csv")).count(b"\r\n") == 1
    assert body(auditor.get(EXPORT)) == b""


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_exported(make_events):
    make_events(10_000, reason=2_000)  # some 22 MB of it

    tracemalloc.start()
    size = sum(len(piece) for piece, _ in audit_export.encoded(ControlEvent.objects.all(), "csv"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size > 20_000_000
    assert peak < 12_000_000


@pytest.mark.django_db(transaction=True)
def test_under_asgi_the_export_is_sent_piece_by_piece(make_events):
    make_events(2_500)
    User.objects.create_superuser("root")

    async def fetch() -> list[int]:
        client = AsyncClient()
        await client.aforce_login(await User.objects.aget(username="root"))
        answer: Any = await client.get(EXPORT)
        assert answer.is_async
        return [len(piece.splitlines()) async for piece in answer.streaming_content]

    assert async_to_sync(fetch)() == [1_000, 1_000, 500]


def plan_of(rows: Any) -> str:
    sql, values = rows.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", values)
        return "\n".join(row[0] for row in cursor.fetchall())


def test_no_page_and_no_filter_walks_over_everything(make_events):
    make_events(30_000)
    make_events(20, action="rare")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE pause_manager_controlevent")
    middle = timezone.now() - timedelta(seconds=15_000)

    for query in (
        {},
        {"action": "rare"},
        {"actor": "user:u7"},
        {"channel": "none"},
        {"request_id": "none"},
        {"scope": "queue:q7"},
        {"until": middle},
        {"since": middle, "until": middle + timedelta(seconds=60)},
    ):
        plan = plan_of(narrowed(ControlEvent.objects.all(), query).order_by(*NEWEST_FIRST)[:101])
        assert "Seq Scan" not in plan, (query, plan)
    assert ControlEvent.objects.values_used("action") == ["made", "rare"]
    assert ControlEvent.objects.values_used("channel") == ["test"]


def test_the_admin_filters_and_exports(make_events):
    make_events(30)
    audit.record("said", scope="fleet", actor=OPERATOR, reason="=1+1")
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:pause_manager_controlevent_changelist")

    shown = client.get(page, {"action": "said", "channel": "test", "hours": "1"})
    searched = client.get(page, {"q": "user:olga"})
    ids = list(ControlEvent.objects.values_list("pk", flat=True))
    file = client.post(page, {"action": "download_csv", "_selected_action": ids[:2]})
    added = client.get(reverse("admin:pause_manager_controlevent_add"))

    assert b"1 control event" in shown.content
    assert b"1 control event" in searched.content
    lines = body(file).decode().splitlines()
    assert len(lines) == 3
    assert "'=1+1" in lines[1]
    assert added.status_code == 403


def test_the_command_writes_a_whole_file_or_none(make_events, tmp_path):
    make_events(1_500)
    file, lines = tmp_path / "audit.csv", tmp_path / "audit.jsonl"
    file.write_text("old")
    since = (timezone.now() - timedelta(seconds=1_000)).isoformat()

    call_command("export_audit", "--format", "csv", "--output", str(file), "--since", since)
    call_command("export_audit", "--output", str(lines), "--actor", "user:u7")
    with pytest.raises(CommandError, match=r"Cannot write .*: no such file or directory"):
        call_command("export_audit", "--output", str(tmp_path / "no" / "file"))
    with pytest.raises(CommandError, match="expected a time such as"):
        call_command("export_audit", "--since", "yesterday")

    assert 900 <= len(file.read_text().splitlines()) - 1 <= 1_000
    assert [json.loads(line)["actor"] for line in lines.read_text().splitlines()] == ["user:u7"] * 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.csv", "audit.jsonl"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_command_writes_to_standard_output_and_shows_progress_on_a_terminal(process_env, make_events):
    make_events(1_500)
    root = Path(__file__).parents[3]
    main, terminal = os.openpty()
    command = [sys.executable, "manage.py", "export_audit"]
    env = {**process_env, "TERM": "xterm"}

    done = subprocess.run(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=terminal, check=True, timeout=100)

    shown = os.read(main, 1 << 16).decode()
    os.close(terminal)
    os.close(main)
    assert len(done.stdout.splitlines()) == 1_500
    assert "exporting events" in shown
