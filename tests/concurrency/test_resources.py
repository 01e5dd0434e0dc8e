"""Claims that race for the places of a resource, and starts of a minute; and the same without the guard."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest
from django.db.backends.utils import CursorWrapper

from automation import leases
from automation.gate import resource_limits
from automation.models import WorkSlice
from pause_manager import resources
from pause_manager.models import Resource
from tests.support.agent_calls import Caller, make_agent
from tests.support.factories import OPERATOR, make_run, stage_of, worker
from tests.support.race import in_thread, race, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 6


def most_leased(rounds: int) -> int:
    """The most leases at once that eight claims of two runs got, where three are allowed."""
    resources.set_limits("provider", {"max_at_once": 3}, actor=OPERATOR)
    most = 0
    for _ in range(rounds):
        stages = [stage_of(make_run("ask", items=24)).pk for _ in range(2)]
        race(*[partial(leases.claim, stages[number % 2], worker(str(number))) for number in range(8)])
        most = max(most, WorkSlice.objects.leased().count())
        WorkSlice.objects.leased().update(lease_token=None, leased_at=None, lease_expires_at=None)
    return most


@pytest.mark.slow
def test_never_more_use_a_resource_than_its_limit_over_all_runs():
    assert most_leased(ROUNDS) == 3


@pytest.mark.slow
def test_without_the_lock_of_the_resource_more_do(monkeypatch):
    execute = CursorWrapper.execute

    def mutated(self, sql, params=None):
        if isinstance(sql, str) and "ORDER BY resource.name FOR NO KEY UPDATE" in sql:
            sql = sql.replace("FOR NO KEY UPDATE", "")
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", mutated)

    assert most_leased(5 * ROUNDS) > 3


def test_a_limit_that_is_set_waits_for_the_claims_that_have_not_seen_it(monkeypatch):
    """A claim that found no limit is committed before the limit is, so that the next one counts it."""
    stage = stage_of(make_run("ask", items=24)).pk
    execute = CursorWrapper.execute
    racers = []

    def paused(self, sql, params=None):
        result = execute(self, sql, params)
        if isinstance(sql, str) and "FOR NO KEY UPDATE OF stage" in sql:
            monkeypatch.setattr(CursorWrapper, "execute", execute)
            set_it = partial(resources.set_limits, "provider", {"max_at_once": 1}, actor=OPERATOR)
            racers.append(in_thread(set_it))
            wait_until_blocked(racers[0])
        return result

    monkeypatch.setattr(CursorWrapper, "execute", paused)
    assert leases.claim(stage, worker("a")) is not None
    racers[0].join()

    assert leases.claim(stage, worker("b")) is None


@pytest.mark.slow
def test_never_more_start_in_a_window_than_a_minute_allows():
    """With a minute of a second: 60 a minute is what the rest after each start says, so its length is measured."""
    resources.set_limits("provider", {"max_per_minute": 600}, actor=OPERATOR)
    until = time.monotonic() + 3

    def take() -> int:
        taken = 0
        while time.monotonic() < until:
            count, wait = resources.take_starts("provider", 10)
            taken += count
            if not count:
                time.sleep(min(wait, 0.05))
        return taken

    began = time.monotonic()
    taken = sum(race(take, take, take, take))

    # 600 a minute are 10 a second: a batch at the beginning, and no more than the pace after that.
    assert 20 <= taken <= 10 + 10 * (time.monotonic() - began)


def test_two_who_take_the_last_start_at_once_do_not_both_get_it():
    resources.set_limits("provider", {"max_per_minute": 1}, actor=OPERATOR)

    for _ in range(ROUNDS):
        Resource.objects.update(next_start_at=None)
        taken = race(*[partial(resources.take_starts, "provider", 1) for _ in range(4)])
        assert sorted(count for count, _ in taken) == [0, 0, 0, 1]


@pytest.fixture
def _agents_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All four agents have got past the gate before one of them takes its starts."""
    execute, barrier = CursorWrapper.execute, threading.Barrier(4)

    def waiting(self, sql, params=None):
        if isinstance(sql, str) and "SET next_start_at" in sql:
            barrier.wait(timeout=10)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", waiting)


def agents_at_once(count: int) -> list[dict[str, Any]]:
    """The jobs that so many agents get who claim at the same moment, each with what it may begin."""
    callers = [Caller(make_agent(f"agent-{number}", pipelines=["ask-remote"])[1]) for number in range(count)]
    jobs = race(*[caller.claim for caller in callers])
    return [job for job in jobs if job is not None]


@pytest.mark.usefixtures("_agents_count_together")
def test_items_of_agents_are_no_more_starts_than_a_minute_allows():
    make_run("ask-remote", items=24)
    resources.set_limits("provider", {"max_per_minute": 6}, actor=OPERATOR)

    assert [len(job["items"]) for job in agents_at_once(4)] == [1], "one each ten seconds"
    assert WorkSlice.objects.leased().count() == 1, "who may begin nothing keeps no job"


@pytest.mark.usefixtures("_agents_count_together")
def test_without_the_count_of_starts_agents_begin_more(monkeypatch):
    make_run("ask-remote", items=24)
    resources.set_limits("provider", {"max_per_minute": 6}, actor=OPERATOR)
    without(monkeypatch, "AND (resource.next_start_at IS NULL OR resource.next_start_at <= clock_timestamp())")

    assert len(agents_at_once(4)) > 1


def test_agents_hold_no_more_jobs_than_a_resource_has_places():
    make_run("ask-remote", items=24)
    resources.set_limits("provider", {"max_at_once": 2}, actor=OPERATOR)

    assert len(agents_at_once(5)) == 2


def test_without_the_count_of_places_agents_hold_more(monkeypatch):
    make_run("ask-remote", items=24)
    resources.set_limits("provider", {"max_at_once": 2}, actor=OPERATOR)
    without(monkeypatch, f"AND {resource_limits.HAVE_PLACES}")

    assert len(agents_at_once(5)) > 2


def without(monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    """Statements lose their ``guard``."""
    execute = CursorWrapper.execute

    def mutated(self, sql, params=None):
        return execute(self, sql.replace(guard, "") if isinstance(sql, str) else sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", mutated)
