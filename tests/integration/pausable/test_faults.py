"""Connections to PostgreSQL break at every statement of a delivery's life: each task runs once, none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from django.db import connection

from tests.support.proxy import PostgresProxy

if TYPE_CHECKING:
    from tests.integration.pausable.project import Foreign
    from tests.support.lives import Lives, Outcome

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

GRACE = {"FOREIGN_GRACE": "1"}
OPTIONS = {"prefork": ("-c", "3"), "threads": ("-P", "threads", "-c", "6")}
CONFIGURATIONS = [(pool, acks) for pool in OPTIONS for acks in ("early", "late")]
ORDINARY_CASES = 12


@pytest.fixture
def proxy(transactional_db: None) -> Iterator[PostgresProxy]:
    with PostgresProxy.of(connection.settings_dict) as opened:
        yield opened


@pytest.fixture
def behind(proxy: PostgresProxy, process_env: dict[str, str]) -> dict[str, str]:
    """The environment of a process whose database is behind the proxy."""
    at = connection.settings_dict
    user = f"{at['USER']}:{quote(at['PASSWORD'])}" if at["PASSWORD"] else at["USER"]
    url = f"postgresql://{user}@{quote(proxy.host, safe='')}/{quote(str(at['NAME']))}"
    return {**process_env, "DATABASE_URL": url}


@pytest.fixture
def foreign(behind: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    from tests.integration.pausable.project import Foreign

    project = Foreign(tmp_path, behind)
    try:
        yield project
    finally:
        project.close()


@pytest.fixture(autouse=True)
def short_grace(settings: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "answer_grace_seconds": 1.0}


def lives_of(foreign: Foreign, proxy: PostgresProxy, pool: str, acks: str) -> Lives:
    from tests.support.lives import Lives

    foreign.worker("one", *OPTIONS[pool], **GRACE, FOREIGN_ACKS_LATE=str(int(acks == "late")))
    return Lives(lambda: foreign.workers.said("one"), proxy)


def check(lives: Lives, outcomes: list[Outcome]) -> None:
    """All went well, most faults have struck, and nothing has begun again since."""
    struck = sum(outcome.has_struck for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.complaints]
    print(f"[faults] {len(outcomes)} cases, {struck} struck, {len(failed)} failed")
    assert [(str(outcome.case), outcome.complaints) for outcome in failed] == []
    assert lives.repeated(*lives.keys) == [], "nothing of an earlier life has begun again"
    assert struck >= 0.7 * len(outcomes), "the others were of statements that come by now and then"


@pytest.mark.parametrize("acks", ["early", "late"])
def test_a_connection_that_breaks_loses_and_doubles_nothing(foreign: Foreign, proxy: PostgresProxy, acks: str):
    from tests.support.lives import spread

    lives = lives_of(foreign, proxy, "prefork", acks)

    writes = [case for case in lives.learn() if case.is_of_a_write]

    check(lives, lives.try_each(spread(writes, ORDINARY_CASES // 2)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("pool", "acks"), CONFIGURATIONS)
def test_wherever_a_worker_s_connection_breaks(foreign: Foreign, proxy: PostgresProxy, pool: str, acks: str):
    lives = lives_of(foreign, proxy, pool, acks)

    check(lives, lives.try_each(lives.learn()))
