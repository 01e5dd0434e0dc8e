"""A run that waits for others by declaration: what meets a dependency, what does not, and who decides then."""

from __future__ import annotations

from uuid import uuid4

import pytest

from automation import gate
from automation.errors import DependencyRefused
from automation.models import AutomationRun, Lane, RunDependency
from automation.retention import deletion, purge
from automation.runs import dependencies, failing, lifecycle, reconciler, retries
from tests.support.factories import OPERATOR, drain, events, make_run, make_site
from tests.support.lane_runs import again, codes, in_lane, make_lane, states
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def short(run: AutomationRun) -> str:
    return str(run.pk)[:8]


def told(run: AutomationRun) -> list[str]:
    return [reason.sentence for reason in gate.explain(again(run)) if reason.code == "dependency"]


@pytest.mark.req("S-10")
def test_a_run_starts_once_all_that_it_waits_for_have_completed():
    first, second = make_run(items=1), make_run(items=1)
    last = make_run(items=1, after=[first.pk, second.pk])

    assert codes(last) == ["dependency", "dependency"]
    assert told(last)[0] == f"It waits for run {short(first)} (numbers), which is running, to complete."
    drain(first)
    assert states(last) == ["pending"]
    drain(second)

    assert states(first, second, last) == ["completed", "completed", "running"]
    assert drain(last).lifecycle == "completed"
    assert events(last, "create")[0].details["after"] == [str(first.pk), str(second.pk)]


@pytest.mark.req("S-10")
@pytest.mark.parametrize("policy", Lane.Policy.values)
def test_parking_never_meets_a_dependency(policy):
    site = make_lane(policy=policy)
    (first,) = in_lane(site)
    (last,) = in_lane(site, after=[first.pk])

    lifecycle.pause(first.pk, actor=OPERATOR, reason="lunch")
    reconciler.reconcile()

    assert states(last) == ["pending"]
    assert told(last) == [f"It waits for run {short(first)} (numbers), which was paused by olga: lunch."]


@pytest.mark.req("M-25")
def test_a_released_run_whose_dependency_is_unfinished_still_waits_and_says_so(shell):
    first = make_run(items=1)
    last = make_run(items=1, after=[first.pk])
    lifecycle.pause(last.pk, actor=OPERATOR, reason="later")
    assert codes(last) == ["dependency", "operator"]

    done = shell("resume_run", str(last.pk))

    assert done.code == 8
    assert "Your hold is released. The run still waits: It waits for run" in done.out
    assert states(last) == ["pending"]


def test_a_run_that_was_completed_before_it_is_named_is_no_wait():
    first = drain(make_run(items=1))

    assert make_run(items=1, after=[first.pk, first.pk]).lifecycle == "running"


def test_a_run_with_failed_items_that_completed_meets_a_dependency():
    first = drain(make_run(items=1))
    AutomationRun.objects.filter(pk=first.pk).update(failed_items=1)

    assert make_run(items=1, after=[first.pk]).lifecycle == "running"


def test_a_failed_dependency_keeps_its_dependent_until_it_is_retried_and_that_completes():
    first = make_run(items=1)
    last = make_run(items=1, after=[first.pk])
    fail(first)
    reconciler.reconcile()
    assert states(first, last) == ["failed", "pending"]
    assert told(last) == [f"It waits for run {short(first)} (numbers), which has failed; somebody must decide."]

    retry = retries.retry_failed(first.pk, actor=OPERATOR)

    assert told(last) == [f"It waits for run {short(retry)} (numbers), which is running, to complete."]
    assert events(first, "retry")[0].details["now_waiting_for_the_retry"] == [str(last.pk)]
    drain(retry)
    assert states(last) == ["running"]


def fail(run: AutomationRun) -> None:
    failing.fail(run.pk, reason="a test")


def test_a_cancelled_dependency_keeps_its_dependent_until_somebody_releases_it():
    first = make_run(items=1)
    last = make_run(items=1, after=[first.pk])
    lifecycle.cancel(first.pk, actor=OPERATOR)
    reconciler.reconcile()
    assert told(last) == [f"It waits for run {short(first)} (numbers), which was cancelled; somebody must decide."]

    with pytest.raises(DependencyRefused, match="expected a reason, got none"):
        dependencies.release(last.pk, first.pk, actor=OPERATOR, reason=" ")
    dependencies.release(last.pk, first.pk, actor=OPERATOR, reason="its input is there already")

    assert states(last) == ["running"]
    [row] = RunDependency.objects.filter(run=last)
    assert (row.released_by, row.release_reason) == ("user:olga", "its input is there already")
    with pytest.raises(DependencyRefused, match="it does not wait for run"):
        dependencies.release(last.pk, first.pk, actor=OPERATOR, reason="again")
    assert len(events(last, "dependency_released")) == 1


def test_a_deleted_dependency_is_like_a_cancelled_one_but_a_completed_one_stays_met():
    done, undone = drain(make_run(items=1)), make_run(items=1)
    last = make_run(items=1, after=[done.pk, undone.pk])
    lifecycle.cancel(undone.pk, actor=OPERATOR)
    for run in (done, undone):
        deletion.delete(run.pk, actor=OPERATOR)
    sentence = f"It waits for run {short(undone)}, which was deleted before it had completed; somebody must decide."
    assert told(last) == [sentence]

    purge.purge()

    assert not AutomationRun.objects.filter(pk__in=[done.pk, undone.pk]).exists()
    assert told(last) == [sentence]
    dependencies.release(last.pk, undone.pk, actor=OPERATOR, reason="not needed")
    assert drain(last).lifecycle == "completed"
    deletion.delete(last.pk, actor=OPERATOR)
    purge.purge()
    assert not RunDependency.objects.exists()


def test_a_dependency_can_be_added_before_the_start_and_a_circle_is_refused_with_its_runs():
    first = make_run(items=1, start=False)
    second = make_run(items=1, start=False, after=[first.pk])
    third = make_run(items=1, start=False)

    assert dependencies.add(third.pk, [second.pk], actor=OPERATOR) == [second.pk]
    assert dependencies.add(third.pk, [second.pk], actor=OPERATOR) == []

    with pytest.raises(DependencyRefused) as refused:
        dependencies.add(first.pk, [third.pk], actor=OPERATOR)
    circle = " waits for ".join(short(run) for run in (third, second, first, third))
    assert str(refused.value).endswith(f"they would wait in a circle: {circle}.")
    assert RunDependency.objects.count() == 2
    assert len(events(third, "dependency_added")) == 1


@pytest.mark.parametrize("which", ["itself", "unknown", "of another account", "deleted"])
def test_a_dependency_on_what_a_run_cannot_wait_for_is_refused(which):
    run = make_run(items=1, start=False)
    after = run.pk if which == "itself" else uuid4()
    if which == "of another account":
        after = make_run(items=1, site=make_site("elsewhere")).pk
    if which == "deleted":
        after = drain(make_run(items=1)).pk
        deletion.delete(after, actor=OPERATOR)

    told = "it cannot wait for itself" if which == "itself" else f"its account has no run {after}"
    with pytest.raises(DependencyRefused, match=told):
        dependencies.add(run.pk, [after], actor=OPERATOR)
    before = AutomationRun.objects.count()
    if which != "itself":
        with pytest.raises(DependencyRefused, match=told):
            make_run(items=1, after=[after])
    assert (RunDependency.objects.count(), AutomationRun.objects.count()) == (0, before)


def test_a_run_that_has_started_waits_for_nothing_more():
    first, running = make_run(items=1), make_run(items=1)

    with pytest.raises(DependencyRefused, match="it is running and does not wait to start"):
        dependencies.add(running.pk, [first.pk], actor=OPERATOR)


def test_two_that_would_wait_for_each_other_race_and_one_is_refused():
    for _ in range(5):
        one, other = make_run(items=1, start=False), make_run(items=1, start=False)

        def add(run: AutomationRun, after: AutomationRun) -> bool:
            try:
                return bool(dependencies.add(run.pk, [after.pk], actor=OPERATOR))
            except DependencyRefused:
                return False

        assert sorted(race(lambda: add(one, other), lambda: add(other, one))) == [False, True]  # noqa: B023


def test_a_run_that_waits_for_a_dependency_is_passed_over_so_that_lanes_do_not_wait_for_each_other():
    one, other = make_lane("one"), make_lane("other")
    one.account = other.account
    one.save()
    (first_of_one,) = in_lane(one, start=False)
    (first_of_other,) = in_lane(other, start=False)
    (last_of_one,) = in_lane(one, start=False)
    (last_of_other,) = in_lane(other, start=False)
    dependencies.add(first_of_one.pk, [last_of_other.pk], actor=OPERATOR)
    dependencies.add(first_of_other.pk, [last_of_one.pk], actor=OPERATOR)
    for run in (first_of_one, first_of_other, last_of_one, last_of_other):
        lifecycle.start_run(run.pk, actor=OPERATOR)

    assert states(last_of_one, last_of_other) == ["running", "running"]
    for run in (last_of_one, last_of_other, first_of_one, first_of_other):
        drain(run)
    assert states(first_of_one, first_of_other, last_of_one, last_of_other) == ["completed"] * 4
