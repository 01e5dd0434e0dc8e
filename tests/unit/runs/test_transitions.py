"""The transition table, as a table: every legal pair happens once, every other is refused and leaves no trace."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db.models.functions import Now

from automation.errors import TransitionRefused
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.runs import transitions
from automation.runs.transitions import TABLE, Transition
from tests.support.factories import OPERATOR, events, make_run, make_site, rows

pytestmark = pytest.mark.django_db

LEGAL = [(transition, source) for transition in TABLE for source in transition.sources]
ILLEGAL = [(transition, source) for transition in TABLE for source in Lifecycle if source not in transition.sources]


def run_in(lifecycle: Lifecycle) -> AutomationRun:
    run = AutomationRun.objects.create(site=make_site(), pipeline="numbers", created_by="test")
    stamps = {"finished_at": Now()} if lifecycle in TERMINAL else {}
    if lifecycle == Lifecycle.CANCELLED:
        stamps["cancelled_at"] = Now()
    AutomationRun.objects.filter(pk=run.pk).update(lifecycle=lifecycle, **stamps)
    run.refresh_from_db()
    return run


def name(value: object) -> str:
    return value.name if isinstance(value, Transition) else str(value)


@pytest.mark.parametrize(("transition", "source"), LEGAL, ids=name)
def test_a_legal_transition_is_made_stamped_and_recorded(transition, source):
    run = run_in(source)

    transitions.apply(transition, run.pk, actor=OPERATOR, reason="because")

    run.refresh_from_db()
    assert run.lifecycle == transition.target
    assert getattr(run, transition.stamp) is not None
    assert (run.finished_at is not None) == (transition.target in TERMINAL)
    [event] = events(run)
    assert (event.action, event.actor, event.channel, event.reason, event.request_id) == (
        transition.name,
        "user:olga",
        "test",
        "because",
        "request-1",
    )


@pytest.mark.req("A-41")
@pytest.mark.parametrize(("transition", "source"), ILLEGAL, ids=name)
def test_an_illegal_transition_is_refused_without_trace(transition, source):
    run = run_in(source)
    before = rows(run)

    with pytest.raises(TransitionRefused) as refused:
        transitions.apply(transition, run.pk, actor=OPERATOR)

    assert str(refused.value) == f"Cannot {transition.name} run {run.pk}: it is {source}."
    assert refused.value.status == source
    assert rows(run) == before


def test_every_final_lifecycle_has_no_way_out():
    assert not [transition for transition in TABLE for source in transition.sources if source in TERMINAL]


def test_a_run_that_does_not_exist_is_refused():
    unknown = uuid4()

    with pytest.raises(TransitionRefused, match=f"Cannot start run {unknown}: it does not exist."):
        transitions.apply(transitions.START, unknown, actor=OPERATOR)


@pytest.mark.parametrize("lifecycle", TERMINAL)
def test_a_cancel_of_a_final_run_is_refused_without_trace(lifecycle):
    run = run_in(lifecycle)
    before = rows(run)

    with pytest.raises(TransitionRefused, match=f"it is {lifecycle}"):
        transitions.request_cancel(run.pk, actor=OPERATOR)

    assert rows(run) == before


@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_one_transition():
    from tests.support.race import race

    for _ in range(10):
        run = make_run("numbers", items=1, start=False)

        def start(run=run):
            try:
                transitions.apply(transitions.START, run.pk, actor=OPERATOR)
            except TransitionRefused:
                return False
            return True

        assert sorted(race(start, start, start)) == [False, False, True]
        assert len(events(run, "start")) == 1
