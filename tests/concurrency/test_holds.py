"""Claims that race with holds on anything but a run; and the same without the guard, which must fail."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from django.db import connection, transaction

from automation import leases
from automation.errors import NoRoom
from automation.models import AutomationRun, Site, WorkSlice
from pause_manager import fleet, holds
from pause_manager.models import Hold
from tests.concurrency.test_claims import without_lock
from tests.support.factories import OPERATOR, claim, leased, make_run, make_site, stage_of, worker
from tests.support.race import in_thread, race, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = ("fleet", "pipeline:few", "lane:site", "queue:stages", "node:node-1")
GUARD = r"pg_advisory_xact_lock_shared\(hashtext\('slackwater holds'\)\)"


def few() -> AutomationRun:
    """A run of a site by this name."""
    return make_run("few", items=10, site=Site.objects.filter(slug="site").first() or make_site("site"))


def place(scope: str) -> list[str]:
    return holds.place([scope], actor=OPERATOR, reason="upgrade")


def claim_that_is_under_way(scope: str) -> tuple[bool, bool]:
    """(whether the hold was committed while the claim was under way, whether a lease was granted all the same).

    The claim has found every gate open and asks the node for room when the hold is placed.
    """
    run = few()
    is_asked, may_go_on = threading.Event(), threading.Event()

    def room(node):
        is_asked.set()
        may_go_on.wait(20)
        return []

    claiming = in_thread(lambda: leases.claim(stage_of(run).pk, worker(), room=room))
    assert is_asked.wait(20)
    placing = in_thread(partial(place, scope))
    try:
        wait_until_blocked(placing, seconds=3)
    except TimeoutError:
        placing.join()
    is_held = Hold.objects.active().exists()
    may_go_on.set()
    claiming.join()
    placing.join()
    assert Hold.objects.active().exists()
    return is_held, claiming.result is not None


@pytest.mark.parametrize("scope", SCOPES)
def test_a_hold_waits_for_a_claim_that_is_under_way(scope):
    assert claim_that_is_under_way(scope) == (False, True)


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
def test_without_the_share_a_lease_follows_the_hold(monkeypatch, scope):
    without_lock(monkeypatch, GUARD, "1")

    assert claim_that_is_under_way(scope) == (True, True)


@pytest.mark.req("W-17")
@pytest.mark.parametrize("scope", SCOPES)
def test_a_claim_that_comes_after_a_hold_waits_for_it_and_obeys(scope):
    run = few()

    def claims():
        try:
            return claim(run)
        except NoRoom:
            return None

    with transaction.atomic():
        place(scope)
        claiming = in_thread(claims)
        wait_until_blocked(claiming)
    claiming.join()

    assert claiming.result is None


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["fleet", "node:node-1"])
def test_no_lease_is_granted_after_the_hold_is_committed(scope):
    """The token tells: one drawn right after the commit is larger than any that was granted before it."""
    for _ in range(15):
        run = few()

        def hold():
            place(scope)
            with connection.cursor() as cursor:
                cursor.execute("SELECT nextval('automation_lease_token')")
                return cursor.fetchone()[0]

        def claims(run=run):
            try:
                return [work.token for work in (claim(run, "a"), claim(run, "b")) if work is not None]
            except NoRoom:
                return []

        committed, *tokens = race(hold, claims, claims)
        assert all(token < committed for granted in tokens for token in granted)
        holds.release([scope], actor=OPERATOR)


@pytest.mark.slow
def test_bulk_holds_and_claims_of_the_same_runs_never_wait_for_each_other():
    runs = [few() for _ in range(3)]

    def hold_and_release():
        for _ in range(10):
            scopes = ["fleet", "node:elsewhere", *(run.scope for run in runs)]
            holds.place(scopes, actor=OPERATOR, reason="storm")
            holds.release(scopes, actor=OPERATOR)

    def claim_and_give_back():
        for _ in range(10):
            for run in runs:
                if work := claim(run):
                    leases.release(work)

    race(hold_and_release, claim_and_give_back, claim_and_give_back, hold_and_release)

    assert not WorkSlice.objects.leased().exists()


def pause_during_a_reap() -> bool:
    """Whether a pause was committed while a reaper had not yet committed what it hands out again."""
    leased(make_run("few", items=3))
    with transaction.atomic():
        leases.reap(["test/a"])
        pausing = in_thread(partial(fleet.pause, mode="drain", reason="upgrade", actor=OPERATOR))
        try:
            wait_until_blocked(pausing, seconds=3)
        except TimeoutError:
            pausing.join()
        is_paused = in_thread(Hold.objects.active().exists)
        is_paused.join()
    pausing.join()
    return bool(is_paused.result)


@pytest.mark.req("W-11")
def test_a_pause_waits_for_a_reaper_that_is_under_way():
    assert not pause_during_a_reap()


@pytest.mark.slow
def test_without_the_share_it_does_not(monkeypatch):
    without_lock(monkeypatch, GUARD, "1")

    assert pause_during_a_reap()
