"""Empty the tables after a test by deleting rows: where Django truncates all of them, each gets a new file."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connection, transaction

KEPT = {"django_content_type", "auth_permission"}
"""What the migrations wrote and no test changes. They wrote the fleet's switch as well, which is put back."""

LARGE = 32 * 2**20
"""Bytes of rows, dead ones counted, from which on emptying all files is the faster way."""

# Nothing writes any more once the locks are there, a killed process's last statement included.
# The audit trail and the ledger are emptied too: one of their own deletions in the same transaction permits that.
_EMPTY = """
DO $$
DECLARE
    name text;
    tables text[] := ARRAY[{literals}];
BEGIN
    LOCK TABLE {tables} IN EXCLUSIVE MODE;
    PERFORM set_config('pause_manager.erasing_in', pg_current_xact_id()::text, true);
    PERFORM set_config('credits.erasing_in', pg_current_xact_id()::text, true);
    IF (SELECT sum(pg_relation_size(t::regclass)) FROM unnest(tables) t) > {large} THEN
        TRUNCATE {tables};
        RETURN;
    END IF;
    FOREACH name IN ARRAY tables LOOP
        EXECUTE format('DELETE FROM %s', name);
    END LOOP;
END $$
"""


def empty_tables(*_: Any) -> None:
    """Leave the rows that the migrations wrote, whatever tests have run before."""
    tables = sorted(set(connection.introspection.django_table_names()) - KEPT)
    quoted = [connection.ops.quote_name(name) for name in tables]
    sql = _EMPTY.format(literals=", ".join(f"'{name}'" for name in quoted), tables=", ".join(quoted), large=LARGE)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
        apps.get_model("pause_manager", "ControlState").objects.create(pk=1)
