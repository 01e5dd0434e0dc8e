"""Runs are kept for as long as their site says, else their pipeline, else the settings; else forever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from automation import retention, tasks
from automation.models import AutomationRun, Site
from automation.pipeline import get_pipeline
from pause_manager.models import ControlEvent
from tests.support.factories import drain, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)


def ended(days_ago: int, pipeline: str = "numbers", site: Site | None = None) -> AutomationRun:
    run = drain(make_run(pipeline, items=1, site=site or Site.objects.first() or make_site()))
    moved = {name: F(name) - timedelta(days=days_ago) for name in ("created_at", "started_at", "finished_at")}
    AutomationRun.objects.filter(pk=run.pk).update(**moved)
    return run


def due() -> set[Any]:
    return {pk for pk, _ in retention.due()}


def test_without_a_word_runs_are_kept_for_ever():
    ended(10_000)

    assert due() == set()


@pytest.mark.slow
def test_the_site_says_it_before_the_pipeline_and_that_before_the_settings(settings, monkeypatch):
    settings.AUTOMATION = {**settings.AUTOMATION, "retention_days": 100}
    monkeypatch.setattr(get_pipeline("fan-out"), "retention_days", 20)
    plain, own = make_site("plain"), make_site("own")
    Site.objects.filter(pk=own.pk).update(retention_days=50)
    runs = {
        (days, pipeline, site.slug): ended(days, pipeline, site).pk
        for days in (10, 30, 70, 200)
        for pipeline in ("numbers", "fan-out")
        for site in (plain, own)
    }

    expected = {
        (30, "fan-out", "plain"),
        (70, "fan-out", "plain"),
        (200, "fan-out", "plain"),
        (200, "numbers", "plain"),
        *((days, pipeline, "own") for days in (70, 200) for pipeline in ("numbers", "fan-out")),
    }
    assert due() == {runs[key] for key in expected}
    assert len(retention.due(limit=2)) == 2


def test_beat_deletes_what_is_kept_no_longer_and_says_so():
    old, new, at_work = ended(31), ended(29), make_run(items=1)
    AutomationRun.objects.filter(pk=at_work.pk).update(created_at=F("created_at") - timedelta(days=400))
    Site.objects.update(retention_days=30)

    tasks.purge_runs()

    assert set(AutomationRun.objects.values_list("pk", flat=True)) == {new.pk, at_work.pk}
    event = ControlEvent.objects.get(scope=old.scope, action="deleted")
    assert (event.actor, event.reason) == ("system", "it ended more than 30 days ago")


def test_a_run_is_kept_as_its_pipeline_says_under_whatever_name(settings, monkeypatch):
    settings.AUTOMATION = {**settings.AUTOMATION, "retention_days": 30}
    monkeypatch.setattr(get_pipeline("numbers"), "retention_days", 100)
    monkeypatch.setattr(get_pipeline("numbers"), "formerly", ("digits",))
    old = ended(150)
    ended(50)
    AutomationRun.objects.update(pipeline="digits")

    assert due() == {old.pk}


def test_a_run_of_a_pipeline_whose_code_is_gone_goes_by_its_site():
    run = ended(31)
    AutomationRun.objects.filter(pk=run.pk).update(pipeline="forgotten")
    Site.objects.update(retention_days=30)

    assert due() == {run.pk}
