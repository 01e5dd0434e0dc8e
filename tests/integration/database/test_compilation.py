"""PostgreSQL compiles no statement of ours: it would take seconds to save milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh_connection() -> Iterator[None]:
    connection.close()
    yield
    connection.close()


def jit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW jit")
        value: str = cursor.fetchone()[0]
    return value


def test_a_new_connection_compiles_nothing():
    assert jit() == "off"


def test_a_project_that_wants_it_keeps_what_the_server_says(settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "jit": True}

    assert jit() == "on"
