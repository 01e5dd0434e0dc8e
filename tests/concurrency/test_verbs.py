"""Verbs that race: pause, resume, cancel, fail, seal, expiry. One outcome, one event, no deadlock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import transaction

from automation import dispatch, leases
from automation.dispatch import turns
from automation.errors import TransitionRefused
from automation.models import TERMINAL, AutomationRun, Lifecycle, Ticket
from automation.models.runs import lock_runs
from automation.runs import advancing, lifecycle, reconciler
from pause_manager import holds
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, drain, events, leased, make_run, settle, stage_of, tickets
from tests.support.race import in_thread, race, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def attempt(verb, run: AutomationRun) -> bool:
    """Whether the verb was accepted."""
    try:
        verb(run.pk, actor=OPERATOR)
    except TransitionRefused:
        return False
    return True


def drain_fresh(run: AutomationRun) -> None:
    drain(AutomationRun.objects.get(pk=run.pk))


@pytest.mark.slow
def test_two_seals_make_one():
    for _ in range(10):
        run = make_run("fan-out", items=3)
        stage_run = stage_of(run)
        stage_run.slices.update(finished_at=run.started_at)

        done = race(*[partial(advancing.seal, stage_run.pk)] * 3)

        assert sorted(done) == [False, False, True]
        assert len(events(run, "stage_completed")) == 2
        assert len(events(run, "complete")) == 1


@pytest.mark.req("A-42")
def test_two_resumes_send_one_dispatchs_worth_of_loops():
    for _ in range(10):
        run = make_run("few", items=10, start=False)
        lifecycle.pause(run.pk, actor=OPERATOR)
        lifecycle.start_run(run.pk, actor=OPERATOR)

        accepted = race(*[partial(attempt, lifecycle.resume, run)] * 3)

        assert sorted(accepted) == [False, False, True]
        assert tickets(run) == 2
        assert len(events(run, "start")) == len(events(run, "hold_released")) == 1


@pytest.mark.slow
@pytest.mark.req("W-53")
def test_pause_cancel_and_the_end_of_the_last_item_leave_one_whole_outcome():
    for _ in range(15):
        run = make_run("numbers", items=1)

        race(
            partial(attempt, lifecycle.pause, run),
            partial(attempt, lifecycle.cancel, run),
            partial(drain_fresh, run),
        )
        settle(run) if not Hold.objects.active().exists() else None

        run.refresh_from_db()
        assert run.lifecycle in TERMINAL
        assert len(events(run, "complete", "cancel", "fail")) == 1
        assert run.paused_at is None
        assert not Hold.objects.active().exists()


@pytest.mark.slow
def test_holds_of_different_kinds_keep_the_pause_times_right():
    run = make_run("few", items=3)
    for _ in range(15):
        for kind in ("operator", "capacity"):
            holds.place([run.scope], kind=kind, actor=OPERATOR)
        race(
            partial(holds.release, [run.scope], kind="operator", actor=OPERATOR),
            partial(holds.release, [run.scope], kind="capacity", actor=OPERATOR),
            partial(holds.place, [run.scope], kind="budget", actor=OPERATOR),
        )

        run.refresh_from_db()
        assert run.paused_at is not None
        holds.release([run.scope], kind="budget", actor=OPERATOR)
        run.refresh_from_db()
        assert run.paused_at is None
        assert run.resumed_at is not None


def test_a_timed_hold_that_ends_while_it_is_released_does_not_deadlock():
    """Expiry takes the run before the hold, like everybody else."""
    run = make_run("few", items=3)
    holds.place([run.scope], actor=OPERATOR, expires_at=run.created_at)

    with transaction.atomic():
        lock_runs([str(run.pk)])
        expiring = in_thread(holds.expire)
        wait_until_blocked(expiring)
        assert holds.release([run.scope], actor=OPERATOR) == [run.scope]
    expiring.join()

    assert expiring.result == 0
    assert len(events(run, "hold_released")) == 1


def test_expiry_from_two_places_acts_once():
    for _ in range(10):
        run = make_run("few", items=3)
        holds.place([run.scope], actor=OPERATOR, expires_at=run.created_at)

        assert sum(race(holds.expire, holds.expire, holds.expire)) == 1
        assert len(events(run, "hold_released")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, 8])
def test_random_verbs_from_all_sides_never_deadlock_and_leave_a_run_that_can_end(rounds):
    chance = random.Random(20)
    for _ in range(rounds):
        runs = [make_run("chain", items=6) for _ in range(3)]
        scopes = [run.scope for run in runs]

        def act(seed: int, runs=runs, scopes=scopes) -> None:
            own = random.Random(seed)
            for _ in range(8):
                run = own.choice(runs)
                actions: list[Callable[[], Any]] = [
                    partial(attempt, lifecycle.pause, run),
                    partial(attempt, lifecycle.resume, run),
                    partial(lifecycle.pause_runs, [one.pk for one in runs], actor=OPERATOR),
                    partial(lifecycle.resume_runs, [one.pk for one in reversed(runs)], actor=OPERATOR),
                    partial(holds.place, scopes[::-1], kind="capacity", actor=OPERATOR),
                    partial(holds.release, scopes, kind="capacity", actor=OPERATOR),
                    partial(drain_fresh, run),
                    reconciler.reconcile,
                    reconciler.reap,
                    holds.expire,
                ]
                own.choice(actions)()

        race(*[partial(act, chance.randrange(10**6)) for _ in range(4)])

        holds.release(scopes, kind="capacity", actor=OPERATOR)
        lifecycle.resume_runs([run.pk for run in runs], actor=OPERATOR)
        for run in runs:
            assert settle(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.slow
def test_a_cancel_while_the_last_slice_is_given_back_ends_the_run():
    for _ in range(15):
        run = make_run("scripted", items=3)
        work = leased(run)

        def give_back(work=work, run=run):
            leases.release(work)
            return lifecycle.finish_cancels([run.pk])

        race(partial(attempt, lifecycle.cancel, run), give_back)
        lifecycle.finish_cancels()

        run.refresh_from_db()
        assert run.lifecycle == Lifecycle.CANCELLED
        assert len(events(run, "cancel")) == 1


@pytest.mark.slow
def test_two_dispatches_at_once_send_no_more_than_is_wanted():
    for _ in range(10):
        run = make_run("few", items=10)
        Ticket.objects.filter(stage_run__run=run).delete()

        sent = race(*[partial(dispatch.dispatch, [stage_of(run).pk])] * 3, dispatch.dispatch)

        assert sum(sent) == tickets(run) == 2


def test_a_message_that_is_delivered_to_two_workers_is_answered_by_one():
    for _ in range(10):
        make_run("few", items=3)
        ticket = Ticket.objects.earliest("pk")

        answers = race(*[partial(turns.answer, ticket.pk)] * 3)

        assert answers.count(None) == 2


def test_every_pair_of_verbs_at_once_is_refused_or_done_never_half():
    verbs = (lifecycle.pause, lifecycle.resume, lifecycle.cancel)
    for one, other in itertools.product(verbs, verbs):
        run = make_run("few", items=3)

        race(partial(attempt, one, run), partial(attempt, other, run))

        run.refresh_from_db()
        is_held = Hold.objects.active().filter(scope=run.scope).exists()
        assert (run.paused_at is not None) == is_held
        assert (run.lifecycle == Lifecycle.CANCELLED) == (lifecycle.cancel in (one, other))
