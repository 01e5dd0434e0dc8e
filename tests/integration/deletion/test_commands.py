"""``purge`` and ``archive_run`` as an operator calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from automation.models import Account, AutomationRun, WorkItem
from automation.retention import archive, deletion, purge
from pause_manager.models import ControlEvent
from tests.support.factories import OPERATOR, drain, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)


def ended(site: Any, **given: Any) -> AutomationRun:
    return drain(make_run("failing", items=7, site=site, **given))


def told(capsys: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_dry_run_tells_what_would_go_and_changes_nothing(capsys):
    site = make_site("ours")
    ended(site)
    make_run(site=site)

    call_command("purge", "--site", "ours", "--dry-run", "--json")

    assert told(capsys) == {"runs": 1, "items": 14, "deleted_before": 0}
    assert AutomationRun.objects.filter(deleted_at=None).count() == 2


def test_an_account_goes_with_its_events_but_for_what_says_so(capsys):
    ours, theirs = make_site("ours"), make_site("theirs")
    gone, kept = ended(ours), ended(theirs)
    at_work = make_run("scripted", site=ours)

    call_command("purge", "--account", ours.account.name, "--events", "--yes", "--json", "--reason", "erasure")

    figures = told(capsys)
    assert (figures["runs"], figures["items"] > 7, figures["events"] > 1) == (1, True, True)
    assert set(AutomationRun.objects.values_list("pk", flat=True)) == {kept.pk, at_work.pk}
    assert set(ControlEvent.objects.filter(scope=gone.scope).values_list("action", flat=True)) == {"deleted", "purged"}
    assert ControlEvent.objects.filter(scope=kept.scope).count() > 2
    assert ControlEvent.objects.filter(scope=at_work.scope).count() > 1
    erased = ControlEvent.objects.get(action="audit_erased")
    assert (erased.reason, erased.details["account"]) == ("erasure", ours.account.name)


def test_what_is_named_and_cannot_go_is_refused(capsys):
    run = make_run("scripted")

    with pytest.raises(CommandError, match="it is running"):
        call_command("purge", str(run.pk), "--yes")
    with pytest.raises(CommandError, match="expected --account with it"):
        call_command("purge", "--events")


def test_without_arguments_it_takes_away_what_was_deleted(capsys):
    run = ended(make_site())
    deletion.delete(run.pk, actor=OPERATOR)

    call_command("purge")

    assert capsys.readouterr().out.startswith("Deleted in ")
    assert not WorkItem.objects.exists()


def test_an_archive_has_all_of_a_run_and_ends_with_its_counts(tmp_path, capsys):
    run = ended(make_site())
    path = tmp_path / "run.jsonl"

    call_command("archive_run", str(run.pk), "--output", str(path))
    with pytest.raises(CommandError, match="it exists already"):
        call_command("archive_run", str(run.pk), "--output", str(path))

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    by_kind: dict[str, list[Any]] = {}
    for line in lines:
        by_kind.setdefault(line.pop("kind"), []).append(line)
    [head], [end] = by_kind["run"], by_kind["end"]
    assert (head["format"], head["id"], head["lifecycle"]) == (1, str(run.pk), run.lifecycle)
    assert end == {kind: len(by_kind.get(kind, ())) for kind in ("stage", "item", "failure", "question", "event")}
    items = WorkItem.objects.filter(made_by__run=run).values_list("made_by__slug", "key", "payload")
    assert [(item["stage"], item["key"], item["payload"]) for item in by_kind["item"]] == sorted(
        items, key=lambda item: (item[0] != "input", item[1])
    )
    assert all(failure["error"] and failure["attempts"] for failure in by_kind["failure"])
    assert not path.with_name("run.jsonl.part").exists()


def test_an_archive_reads_large_items_a_few_at_a_time(monkeypatch):
    run = make_run(items=[{"n": n, "text": "x" * 200_000} for n in range(40)], start=False)
    sizes: list[int] = []

    def watching(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if "jsonb_build_object" in sql:
            sizes.append(params[-1])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watching):
        assert sum(len(line) for line in archive.lines(run)) > 8_000_000

    assert {size for size in sizes if size != archive.FIRST_CHUNK} == {5}


def test_one_that_is_broken_off_leaves_no_file(tmp_path, monkeypatch):
    run = ended(make_site())

    def broken(*_: Any) -> Any:
        yield b"{}\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "lines", broken)
    with pytest.raises(CommandError, match="interrupted"):
        call_command("archive_run", str(run.pk), "--output", str(tmp_path / "run.jsonl"))

    assert list(tmp_path.iterdir()) == []
    assert (Account.objects.count(), purge.purge().runs) == (1, 0)


@pytest.mark.slow
def test_whoever_reads_an_archive_may_stop_reading(process_env):
    """As ``archive_run RUN | head -1``."""
    run = drain(make_run("numbers", items=5_000))
    command = [sys.executable, "manage.py", "archive_run", str(run.pk), "--output", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=process_env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        complaints = process.stderr.read().decode()
        assert process.wait(60) == 1

    assert "Traceback" not in complaints
    assert "BrokenPipe" not in complaints
