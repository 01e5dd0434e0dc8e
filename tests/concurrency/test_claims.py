"""Claims that race with each other, with holds, with cancels; and the same without the guard, which must fail."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from functools import partial

import pytest
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from automation import leases
from automation.errors import LeaseLost
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint, claims
from automation.leases.checkpoint import Progress
from automation.models import Lifecycle, WorkSlice
from automation.runs import lifecycle
from pause_manager import holds
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, claim, drain, expire_leases, leased, make_run, rows, stage_of, worker
from tests.support.race import in_thread, race, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def without(monkeypatch, module, name: str, guard: str) -> None:
    """Take ``guard`` out of the statement ``name`` of ``module``; it must be in there."""
    statement = getattr(module, name)
    is_text = isinstance(statement, str)
    mutated = statement.replace(guard, "") if is_text else statement.replaced(guard, "")
    assert mutated != statement if is_text else mutated.sql != statement.sql
    monkeypatch.setattr(module, name, mutated)


def without_lock(monkeypatch, pattern: str, instead: str = "") -> None:
    """Take what matches ``pattern`` out of every statement of a claim, which is built where it is used."""
    execute = CursorWrapper.execute

    def mutated(self, sql, params=None):
        return execute(self, re.sub(pattern, instead, sql) if isinstance(sql, str) else sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", mutated)


def doubles(rounds: int) -> int:
    """Rounds in which two of four racing claims got the same slice."""
    found = 0
    for _ in range(rounds):
        run = make_run("few", items=8)
        stage_run = stage_of(run)
        # Without the stage's own lock, so that the claim statement stands alone.
        works = race(*[partial(take_next, stage_run.pk, name) for name in "abcd"])
        slices = [work.slice_id for work in works if work is not None]
        found += len(slices) != len(set(slices))
    return found


def take_next(stage_run_id: int, name: str):
    with connection.cursor() as cursor:
        claims._CLAIM.run(
            cursor,
            {
                "stage": stage_run_id,
                "owner": name,
                "keeper": "",
                "node": "n",
                "gpus": [],
                "lease": 15,
                "concurrency": None,
                "group": 1,
                "is_fresh": True,
                "hands_out": True,
                **claims._suspicion(),
            },
        )
        row = cursor.fetchone()
    return LeasedSlice(*row) if row else None


def test_two_claims_never_get_the_same_slice():
    assert doubles(rounds=15) == 0


@pytest.mark.slow
def test_without_skip_locked_two_claims_do(monkeypatch):
    without(monkeypatch, claims, "_CLAIM", "FOR UPDATE SKIP LOCKED")

    assert doubles(rounds=60) > 0


def overruns(rounds: int) -> int:
    """Rounds in which five racing claims together got more than the two loops that the stage allows."""
    found = 0
    for _ in range(rounds):
        run = make_run("few", items=10)
        race(*[partial(claim, run, name) for name in "abcde"])
        found += WorkSlice.objects.leased().filter(stage_run__run=run).count() > 2
    return found


def test_racing_claims_never_exceed_the_concurrency():
    assert overruns(rounds=15) == 0


@pytest.mark.slow
def test_without_the_lock_on_the_stage_they_do(monkeypatch):
    without_lock(monkeypatch, r"FOR NO KEY UPDATE OF stage")

    assert overruns(rounds=60) > 0


def leases_after_a_hold(rounds: int) -> int:
    """Rounds in which a lease was granted after the hold was committed: the token tells."""
    found = 0
    for _ in range(rounds):
        run = make_run("few", items=10)

        def pause(run=run):
            lifecycle.pause(run.pk, actor=OPERATOR)
            with connection.cursor() as cursor:
                cursor.execute("SELECT nextval('automation_lease_token')")
                return cursor.fetchone()[0]

        def claimed(run=run):
            return [work.token for work in (claim(run, "a"), claim(run, "b")) if work is not None]

        committed, *tokens = race(pause, claimed, claimed)
        # A token drawn after the hold's commit is larger than one drawn right after that.
        found += any(token > committed for token in itertools.chain(*tokens))
    return found


@pytest.mark.req("M-05")
def test_no_lease_is_granted_after_a_hold_is_committed():
    assert leases_after_a_hold(rounds=20) == 0


def claim_that_began_before_a_hold() -> tuple[list[str], bool]:
    """(statuses seen by others once the hold is committed, whether a lease was granted) when the claim came first."""
    run = make_run("few", items=10)
    stage_run = stage_of(run)
    with transaction.atomic(), connection.cursor() as cursor:
        # Somebody is dispatching the stage: the claim has read the gate and waits.
        cursor.execute("SELECT 1 FROM automation_stagerun WHERE id = %s FOR NO KEY UPDATE", [stage_run.pk])
        claiming = in_thread(lambda: claim(run, "a"))
        wait_until_blocked(claiming)
        pausing = in_thread(lambda: lifecycle.pause(run.pk, actor=OPERATOR))
        with suppress(TimeoutError):
            pausing.join(timeout=0.7)
        is_held = in_thread(lambda: Hold.objects.active().exists())
        is_held.join()
    claiming.join()
    pausing.join()
    return (["paused"] if is_held.result else []), claiming.result is not None


def test_a_hold_waits_for_a_claim_that_has_already_read_the_gate():
    seen, is_leased = claim_that_began_before_a_hold()

    assert (seen, is_leased) == ([], True)


def test_without_the_share_of_the_run_a_lease_follows_the_hold(monkeypatch):
    without_lock(monkeypatch, r"FOR SHARE")

    seen, is_leased = claim_that_began_before_a_hold()

    assert (seen, is_leased) == (["paused"], True)


def test_a_claim_that_comes_after_a_hold_waits_for_it_and_obeys():
    run = make_run("few", items=10)
    with transaction.atomic():
        lifecycle.pause(run.pk, actor=OPERATOR)
        claiming = in_thread(lambda: claim(run, "a"))
        wait_until_blocked(claiming)
    claiming.join()

    assert claiming.result is None


@pytest.mark.slow
def test_a_cancel_never_ends_a_run_of_which_a_slice_is_leased():
    for _ in range(15):
        run = make_run("few", items=10)

        race(
            partial(claim, run, "a"),
            partial(lifecycle.cancel, run.pk, actor=OPERATOR),
            partial(claim, run, "b"),
        )

        run.refresh_from_db()
        assert run.cancel_requested_at is not None
        is_leased = WorkSlice.objects.leased().filter(stage_run__run=run).exists()
        assert (run.lifecycle == Lifecycle.CANCELLED) != is_leased


def stale_writes(rounds: int) -> int:
    """Rounds in which a worker whose lease was taken over moved the cursor all the same."""
    found = 0
    for _ in range(rounds):
        run = make_run("scripted", items=5)
        stale = leased(run, "stale")
        expire_leases(run)
        leases.reap()
        claim(run, "fresh")
        before = rows(run)
        try:
            checkpoint.commit(stale, Progress(cursor="000", processed=1))
        except LeaseLost:
            assert rows(run) == before
        else:
            found += 1
    return found


def test_a_stale_worker_changes_nothing():
    assert stale_writes(rounds=3) == 0


def test_without_the_fencing_token_it_does(monkeypatch):
    without(monkeypatch, checkpoint, "_MOVE_ON", "AND lease_token = %(token)s::bigint")

    assert stale_writes(rounds=1) == 1


def test_two_reapers_end_each_lease_once():
    for _ in range(10):
        run = make_run("few", items=10)
        claim(run, "a")
        claim(run, "b")
        expire_leases(run)

        ended = race(leases.reap, leases.reap, leases.reap)

        assert len(list(itertools.chain(*ended))) == 2
        assert set(run.stages.get(slug="few").slices.values_list("expiries", flat=True)) == {0, 1}


@pytest.mark.slow
def test_a_lease_that_is_extended_while_it_is_reaped_is_one_or_the_other():
    for _ in range(15):
        run = make_run("few", items=1)
        work = leased(run, "a")
        expire_leases(run)

        stop, reaped = race(partial(leases.heartbeat, work), leases.reap)

        assert (stop is None) == (reaped == [])
        assert WorkSlice.objects.leased().filter(stage_run__run=run).exists() == (stop is None)
        assert drain(run) if stop else True


def test_holds_are_all_or_nothing_over_many_runs():
    """M-09: no observer sees part of them held."""
    runs = [make_run("few", items=1) for _ in range(5)]
    scopes = [run.scope for run in runs]

    def observe():
        return {Hold.objects.covering(scopes).count() for _ in range(40)}

    seen, _ = race(observe, lambda: holds.place(scopes, actor=OPERATOR))

    assert seen <= {0, 5}


def test_worker_names_are_kept_with_the_lease():
    run = make_run("few", items=1)
    leases.claim(stage_of(run).pk, worker("z"))

    assert leases.holders() == [("test/z", "", False)]
