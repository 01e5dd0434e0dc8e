"""What becomes of occurrences that are due: each is started once, skipped or missed for a reason that is on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from automation.models import AutomationRun, Lifecycle, Schedule
from automation.retention import closure
from automation.runs import creation
from automation.schedules import definitions, report, starting
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.factories import OPERATOR, make_run, make_site, outputs, settle
from tests.support.schedules import come_due, make_schedule, outcomes, reason_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.req("A-30")]


def runs_of(schedule: Schedule) -> list[AutomationRun]:
    return list(AutomationRun.objects.filter(site=schedule.site).order_by("created_at"))


def finish(run: AutomationRun, *, hours_ago: float) -> None:
    """The run has ended, and had started so long ago."""
    started = timezone.now() - timedelta(hours=hours_ago)
    AutomationRun.objects.filter(pk=run.pk).update(
        lifecycle=Lifecycle.COMPLETED, created_at=started, started_at=started, finished_at=Now(), lane_seat_at=None
    )


def test_a_due_schedule_starts_its_run_once_with_its_items():
    schedule = make_schedule(priority=2)
    [due] = come_due(schedule)

    assert starting.start_due() == 1
    assert starting.start_due() == 0

    [run] = runs_of(schedule)
    assert (run.pipeline, run.priority, run.created_by) == ("drill", 2, f"schedule:{schedule}")
    assert outcomes(schedule) == [(due, "started")]
    schedule.refresh_from_db()
    assert schedule.next_due_at == due + timedelta(hours=1)
    settle(run)
    assert len(outputs(run)) == 3


def test_nothing_starts_before_its_time():
    schedule = make_schedule()

    starting.start_due()

    assert runs_of(schedule) == []


def test_items_of_the_schedule_are_the_input_of_its_run():
    schedule = make_schedule(pipeline="numbers", params={}, items=[{"n": 4}, {"n": 5}])
    come_due(schedule)

    starting.start_due()

    [run] = runs_of(schedule)
    settle(run)
    assert [item["square"] for item in outputs(run)] == [16, 25]


def test_a_site_with_an_unfinished_run_is_skipped():
    site = make_site()
    schedule = make_schedule(site)
    run = make_run(site=site, start=False)
    [due] = come_due(schedule)

    starting.start_due()

    assert runs_of(schedule) == [run]
    assert outcomes(schedule) == [(due, "skipped")]
    assert reason_of(schedule, due) == f"site {site.slug} has the unfinished run {run.pk}"


def test_a_schedule_may_start_beside_an_unfinished_run():
    site = make_site()
    schedule = make_schedule(site, skip_if_active=False)
    make_run(site=site, start=False)
    come_due(schedule)

    starting.start_due()

    assert len(runs_of(schedule)) == 2


@pytest.mark.parametrize(("hours_ago", "outcome"), [(22.0, "skipped"), (23.5, "started")])
def test_a_daily_schedule_skips_a_site_that_ran_within_23_hours(hours_ago: float, outcome: str):
    now = timezone.now()
    site = make_site()
    schedule = make_schedule(
        site, kind="daily", at=(now - timedelta(minutes=1)).time().replace(second=0, microsecond=0)
    )
    [due] = come_due(schedule)
    run = creation.create("drill", site=site, actor=OPERATOR, params={"items": 1})
    finish(run, hours_ago=hours_ago)

    starting.start_due()

    assert outcomes(schedule) == [(due, outcome)]
    if outcome == "skipped":
        assert f"run {run.pk} of drill started for site {site.slug}" in reason_of(schedule, due)


def test_the_hours_between_can_be_set():
    site = make_site()
    schedule = make_schedule(site, min_hours_between=3)
    finish(creation.create("drill", site=site, actor=OPERATOR, params={"items": 1}), hours_ago=2)
    [due] = come_due(schedule)

    starting.start_due()

    assert outcomes(schedule) == [(due, "skipped")]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("all", ["started", "started", "started"]),
        ("last", ["missed", "missed", "started"]),
        ("none", ["missed", "missed", "missed"]),
    ],
)
def test_after_an_outage_catch_up_decides(catch_up: str, expected: list[str], settings: Any):
    settings.AUTOMATION = {**settings.AUTOMATION, "schedule_grace_seconds": 0.0}
    schedule = make_schedule(catch_up=catch_up)
    times = come_due(schedule, 3)

    starting.start_due()

    assert outcomes(schedule) == list(zip(times, expected, strict=True))
    assert len(runs_of(schedule)) == expected.count("started")


def test_a_long_outage_is_caught_up_within_bounds_and_recorded_in_short(settings: Any):
    settings.AUTOMATION = {**settings.AUTOMATION, "schedule_catch_up": 2}
    schedule = make_schedule(catch_up="all")
    times = come_due(schedule, 60)

    starting.start_due()

    told = outcomes(schedule)
    assert told == [(at, "missed") for at in times[8:58]] + [(at, "started") for at in times[58:]]
    assert reason_of(schedule, times[8]).endswith("catch_up is all; so were 8 earlier ones")


def test_what_a_pause_missed_is_caught_up_when_it_is_resumed():
    schedule = make_schedule()
    definitions.pause(schedule.pk, actor=OPERATOR, reason="the farm moves")
    times = come_due(schedule, 2)
    starting.start_due()
    assert outcomes(schedule) == []

    definitions.resume(schedule.pk, actor=OPERATOR)
    starting.start_due()

    assert outcomes(schedule) == [(times[0], "missed"), (times[1], "started")]


def test_a_pause_ends_by_itself():
    schedule = make_schedule()
    definitions.pause(schedule.pk, actor=OPERATOR, until=timezone.now() + timedelta(hours=1))
    starting.start_due()
    assert Schedule.objects.get().paused_at is not None
    Schedule.objects.update(paused_until=timezone.now() - timedelta(seconds=1))
    come_due(schedule)

    starting.start_due()

    assert Schedule.objects.get().paused_at is None
    assert len(runs_of(schedule)) == 1
    event = ControlEvent.objects.get(action="schedule_resumed")
    assert event.actor == f"schedule:{schedule}"


def test_a_schedule_that_is_off_does_not_come_and_catches_nothing_up():
    schedule = make_schedule()
    definitions.change(schedule.pk, {"is_enabled": False}, actor=OPERATOR)
    come_due(schedule)
    starting.start_due()
    assert outcomes(schedule) == []

    definitions.change(schedule.pk, {"is_enabled": True}, actor=OPERATOR)
    starting.start_due()

    assert outcomes(schedule) == []
    assert Schedule.objects.get().next_due_at > timezone.now()  # type: ignore[operator]


def test_a_closed_site_stops_its_schedules_and_says_so():
    site = make_site()
    schedule = make_schedule(site)
    closure.close_site(site, actor=OPERATOR)
    [due] = come_due(schedule)

    starting.start_due()

    assert runs_of(schedule) == []
    assert reason_of(schedule, due).startswith(f"site {site.slug} has been closed since ")


def test_an_occurrence_whose_run_cannot_be_made_is_told_and_the_next_one_comes():
    schedule = make_schedule()
    Schedule.objects.update(params={"items": "many"})
    [due] = come_due(schedule)

    starting.start_due()

    assert outcomes(schedule) == [(due, "failed")]
    assert "items" in reason_of(schedule, due)
    assert Schedule.objects.get().next_due_at == due + timedelta(hours=1)
    event = ControlEvent.objects.get(action="occurrence_failed")
    assert event.tenant == schedule.site.account_id


def test_a_bad_schedule_keeps_no_other_from_starting():
    bad, good = make_schedule(name="bad"), make_schedule(name="good")
    Schedule.objects.filter(pk=bad.pk).update(pipeline="gone")
    come_due(bad)
    come_due(good)

    starting.start_due()

    assert [kind for _, kind in outcomes(bad) + outcomes(good)] == ["failed", "started"]


def test_a_schedule_ends_at_its_expiry():
    schedule = make_schedule()
    [due] = come_due(schedule)
    Schedule.objects.update(expires_at=due + timedelta(seconds=1))

    starting.start_due()

    assert outcomes(schedule) == [(due, "started")]
    assert Schedule.objects.get().next_due_at is None
    assert ControlEvent.objects.filter(action="schedule_ended", scope=schedule.scope).count() == 1


def test_no_occurrence_comes_after_the_expiry():
    schedule = make_schedule()
    [due] = come_due(schedule)
    Schedule.objects.update(expires_at=due - timedelta(seconds=1))

    starting.start_due()

    assert outcomes(schedule) == []
    assert Schedule.objects.get().next_due_at is None


@pytest.mark.parametrize("scope", ["fleet", "pipeline:drill", "lane:{site}"])
def test_time_in_which_it_was_held_does_not_count_into_the_expiry(scope: str):
    schedule = make_schedule()
    [due] = come_due(schedule)
    holds.place([scope.format(site=schedule.site.slug)], actor=OPERATOR, reason="the farm moves")
    Hold.objects.update(created_at=due - timedelta(hours=5))
    Schedule.objects.update(created_at=due - timedelta(hours=6), expires_at=due - timedelta(hours=1))

    starting.start_due()

    assert outcomes(schedule) == [(due, "started")]
    # Five hours until now less the hour after which it would have expired, and what the hold added meanwhile.
    assert Schedule.objects.get().expires_at > due  # type: ignore[operator]


def test_a_time_after_the_expiry_is_judged_when_it_has_come_as_it_may_be_held_until_then():
    schedule = make_schedule()
    [due] = come_due(schedule)
    Schedule.objects.update(created_at=due - timedelta(hours=6), expires_at=timezone.now() + timedelta(seconds=1))

    starting.start_due()

    soon = Schedule.objects.get()
    assert (soon.comes_at, report.coming(soon)) == (None, []), "nobody is promised it"
    assert soon.next_due_at == due + timedelta(hours=1)
    assert report.state_of(soon) == "active"


def test_time_in_which_it_was_paused_does_not_count_into_the_expiry():
    schedule = make_schedule()
    definitions.pause(schedule.pk, actor=OPERATOR)
    now = timezone.now()
    ends = now + timedelta(minutes=10)
    Schedule.objects.update(created_at=now - timedelta(hours=3), paused_at=now - timedelta(hours=2), expires_at=ends)

    definitions.resume(schedule.pk, actor=OPERATOR)

    moved = Schedule.objects.get().expires_at - ends  # type: ignore[operator]
    assert timedelta(hours=2) <= moved < timedelta(hours=2, minutes=1)


def test_two_holds_at_once_count_once():
    schedule = make_schedule()
    [due] = come_due(schedule)
    holds.place(["fleet", "pipeline:drill"], actor=OPERATOR, reason="the farm moves")
    Hold.objects.update(created_at=due - timedelta(hours=2), released_at=due - timedelta(hours=1), released_by="x")
    Schedule.objects.update(created_at=due - timedelta(hours=6), expires_at=due - timedelta(minutes=90))

    starting.start_due()

    assert Schedule.objects.get().expires_at == due - timedelta(minutes=30)
    assert outcomes(schedule) == []
