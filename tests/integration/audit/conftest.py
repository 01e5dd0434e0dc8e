"""Events for tests, as many as wanted, made in one statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

MAKE = """
    INSERT INTO pause_manager_controlevent
           (at, action, scope, actor, channel, reason, request_id, details, before, after)
    SELECT now() - make_interval(secs => %(count)s - n), %(action)s, 'queue:q' || n %% 50, 'user:u' || n %% 50,
           'test', repeat('r', %(reason)s), '', '{"n": 1}', NULL, NULL
      FROM generate_series(1, %(count)s) AS n
"""


@pytest.fixture
def make_events(db: Any) -> Callable[..., None]:
    """Events a second apart, the last one now."""

    def make(count: int, *, action: str = "made", reason: int = 10) -> None:
        with connection.cursor() as cursor:
            cursor.execute(MAKE, {"count": count, "action": action, "reason": reason})

    return make
