"""What becomes of a run whose creator dies, and of a resume that finds no operator's hold."""

from __future__ import annotations

import pytest

from automation.errors import TransitionRefused
from automation.models import AutomationRun, Lifecycle
from automation.runs import creation, lifecycle, reconciler
from pause_manager import holds
from pause_manager.actor import Actor
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, make_run, make_site
from tests.support.process_death import AT_THE_START, Died, dying_at

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_whose_creator_died_before_it_began_is_started_by_the_reconciler():
    """M-21: the wish to start is committed with the run."""

    with dying_at(AT_THE_START), pytest.raises(Died):
        creation.create("drill", site=make_site(), actor=OPERATOR, params={"items": 3, "seconds": 0})
    run = AutomationRun.objects.get()
    assert run.lifecycle == Lifecycle.PENDING

    reconciler.reconcile()

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.RUNNING


def test_resuming_what_capacity_holds_says_so():
    run = make_run()
    holds.place([run.scope], kind=Hold.Kind.CAPACITY, actor=Actor("capacity", "policy"))

    with pytest.raises(TransitionRefused, match="it is kept by a capacity hold, not by an operator's"):
        lifecycle.resume(run.pk, actor=OPERATOR)

    assert Hold.objects.covering([run.scope]).exists()
