"""Connections to PostgreSQL break at every statement of a delivery's life: each task runs once, none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, current_app

from tests.support.proxy import PostgresProxy
from tests.support.rabbitmq import is_installed

if TYPE_CHECKING:
    from tests.support.delivery_lives import Lives, Orders, Outcome
    from tests.support.foreign_project import Foreign
    from tests.support.rabbitmq import RabbitMQ

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

OPTIONS = {"prefork": ("-c", "3"), "threads": ("-P", "threads", "-c", "6")}
CONFIGURATIONS = [(pool, acks) for pool in OPTIONS for acks in ("early", "late")]
ORDINARY_CASES = 6
needs_rabbitmq = pytest.mark.skipif(not is_installed(), reason="no RabbitMQ is installed (Debian: rabbitmq-server)")


@pytest.fixture(autouse=True)
def short_grace(settings: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "answer_grace_seconds": 1.0}


@contextmanager
def sending_to(broker: str) -> Iterator[None]:
    """This process as one of those that use the broker at this URL."""
    ours: Any = current_app
    ours = ours._get_current_object()
    operator = Celery("operator", broker=broker)
    operator.set_current()
    try:
        yield
    finally:
        operator.close()
        ours.set_current()


def lives_of(
    foreign: Foreign, proxy: PostgresProxy, pool: str, acks: str, orders: Orders | None = None, **env: str
) -> Lives:
    from tests.support.delivery_lives import Lives

    foreign.worker("one", *OPTIONS[pool], FOREIGN_ACKS_LATE=str(int(acks == "late")), **env)
    return Lives(lambda: foreign.workers.said("one"), proxy, orders)


def check(lives: Lives, outcomes: list[Outcome]) -> None:
    """All went well, and most faults have struck."""
    struck = sum(outcome.has_struck for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.complaints]
    print(f"[faults] {len(outcomes)} cases, {struck} struck, {len(failed)} failed")
    for outcome in failed:
        print(f"[faults] failed: {outcome.case}: {outcome.complaints}")
    assert [(str(outcome.case), outcome.complaints) for outcome in failed] == []
    assert lives.repeated(*lives.keys) == []
    assert struck >= 0.7 * len(outcomes), "the others were of statements that come by now and then"


@pytest.mark.slow
@pytest.mark.parametrize("acks", ["early", "late"])
def test_a_connection_that_breaks_loses_and_doubles_nothing(foreign_behind: Foreign, proxy: PostgresProxy, acks: str):
    from tests.support.delivery_lives import spread

    lives = lives_of(foreign_behind, proxy, "prefork", acks)
    answers = [case for case in lives.learn() if case.is_of_a_write and case.when == "after"]

    check(lives, lives.try_each(spread(answers, ORDINARY_CASES)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("pool", "acks"), CONFIGURATIONS)
def test_wherever_a_worker_s_connection_breaks(foreign_behind: Foreign, proxy: PostgresProxy, pool: str, acks: str):
    lives = lives_of(foreign_behind, proxy, pool, acks)

    check(lives, lives.try_each(lives.learn()))


@needs_rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("acks", ["early", "late"])
def test_wherever_it_breaks_over_rabbitmq(foreign_behind: Foreign, proxy: PostgresProxy, rabbitmq: RabbitMQ, acks: str):
    with sending_to(rabbitmq.url):
        lives = lives_of(foreign_behind, proxy, "prefork", acks, FOREIGN_BROKER=rabbitmq.url)

        check(lives, lives.try_each(lives.learn()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_wherever_the_connection_of_an_operator_breaks(
    foreign_behind: Foreign, proxy: PostgresProxy, process_env: dict[str, str]
):
    """Of whoever holds, parks, releases, sends on and polls, and does it again if it failed."""
    from tests.support.delivery_lives import Elsewhere

    project = foreign_behind
    operator = Elsewhere(project.env, project.root / "operator.log")
    try:
        lives = lives_of(project, proxy, "prefork", "early", operator, DATABASE_URL=process_env["DATABASE_URL"])

        check(lives, lives.try_each(lives.learn()))
    finally:
        operator.close()
