"""The audit trail cannot be rewritten, by any statement, and what takes old events away says so in the trail."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from pause_manager.models import ControlEvent
from pause_manager.observability import audit
from tests.support.factories import OPERATOR

pytestmark = pytest.mark.django_db

TABLE = ControlEvent._meta.db_table
PERMIT = "SELECT set_config('pause_manager.erasing_in', %s, false)"


def run(statement: str, *values: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values or None)


@pytest.mark.req("W-03")
@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {TABLE} SET reason = 'another'",
        f"UPDATE {TABLE} SET reason = reason WHERE false",
        f"DELETE FROM {TABLE}",
        f"TRUNCATE {TABLE}",
        f"TRUNCATE {TABLE} CASCADE",
        f"WITH gone AS (DELETE FROM {TABLE} RETURNING id) SELECT count(*) FROM gone",
        f"INSERT INTO {TABLE} (id, at, action, scope, actor, channel, reason, request_id, details) "
        f"SELECT id, at, action, scope, actor, channel, 'another', request_id, details FROM {TABLE} "
        f"ON CONFLICT (id) DO UPDATE SET reason = excluded.reason",
    ],
)
def test_no_statement_changes_or_removes_an_event(statement):
    audit.record("tried", scope="fleet", actor=OPERATOR, reason="the first")

    with pytest.raises(IntegrityError, match="the audit trail is append-only"):
        run(statement)

    assert ControlEvent.objects.get().reason == "the first"


@pytest.mark.req("W-03")
def test_django_cannot_either_and_a_permit_is_good_for_its_own_transaction_only():
    audit.record("tried", scope="fleet", actor=OPERATOR, reason="the first")
    event = ControlEvent.objects.get()
    event.reason = "another"

    for change in (event.save, event.delete, ControlEvent.objects.all().delete):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            change()
    for permit in ("on", "1", "0"):
        run(PERMIT, permit)
        with pytest.raises(IntegrityError, match="append-only"):
            run(f"DELETE FROM {TABLE}")

    assert ControlEvent.objects.get().reason == "the first"


def test_even_who_erases_cannot_rewrite():
    audit.record("tried", scope="fleet", actor=OPERATOR)

    run("SELECT set_config('pause_manager.erasing_in', pg_current_xact_id()::text, true)")
    with pytest.raises(IntegrityError, match="Cannot update events"):
        run(f"UPDATE {TABLE} SET reason = 'another'")


def test_old_events_go_by_a_command_that_leaves_an_event(make_events):
    make_events(100)
    limit = timezone.now() - timedelta(seconds=30)

    call_command("erase_audit", "--before", limit.isoformat(), "--reason", "kept for 90 days", "--yes")

    left = list(ControlEvent.objects.order_by("pk"))
    assert [event.action for event in left] == ["made"] * 30 + ["audit_erased"]
    assert left[-1].details["events"] == 70
    assert (left[-1].reason, left[-1].channel) == ("kept for 90 days", "cli")
    assert left[-1].actor.startswith("shell:")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        ControlEvent.objects.all().delete()  # in the same transaction: the permit is given back


def test_erasing_needs_a_reason_and_a_time_that_has_passed(make_events):
    make_events(5)
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()

    for before, reason, said in ((tomorrow, "because", "has passed"), ("2026-01-01", "  ", "a reason")):
        with pytest.raises(CommandError, match=said):
            call_command("erase_audit", "--before", before, "--reason", reason, "--yes")

    assert ControlEvent.objects.count() == 5
