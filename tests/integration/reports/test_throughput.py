"""The throughput of runs from their rows: all items are in it, of a large run by a sample, and the page draws it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from automation.models import AutomationRun, WorkSlice
from automation.reports import throughput
from automation.runs import lifecycle
from backend.console.run import throughput as chart
from tests.support.factories import OPERATOR, drain, make_run, settle

pytestmark = pytest.mark.django_db(transaction=True)


def of(run: AutomationRun) -> throughput.Throughput:
    return throughput.of_run(run, list(run.stages.order_by("position")), [])


def work_slices(run: AutomationRun) -> int:
    return WorkSlice.objects.filter(stage_run__run=run, phase=WorkSlice.Phase.WORK).count()


def test_every_processed_and_failed_item_of_every_stage_is_in_it() -> None:
    run = settle(make_run(items=25))

    found = of(run)

    rows = WorkSlice.objects.filter(stage_run__run=run).values_list("processed", "failed")
    assert round(sum(step.processed for step in found.steps), 3) == sum(processed for processed, _ in rows)
    assert round(sum(step.failed for step in found.steps), 3) == sum(failed for _, failed in rows)
    assert not found.is_estimate
    assert (found.steps[0].since, found.steps[-1].until) == (run.created_at, run.finished_at)


def test_of_a_large_run_evenly_chosen_slices_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    run = settle(make_run(items=400))
    stages = run.stages.filter(position__gte=0).count()
    monkeypatch.setattr(throughput, "SAMPLED", 4 * stages)
    assert work_slices(run) > 4 * stages

    found = of(run)

    true = sum(WorkSlice.objects.filter(stage_run__run=run).values_list("processed", flat=True))
    assert found.is_estimate
    assert abs(sum(step.processed for step in found.steps) - true) <= 0.3 * true


def test_a_run_that_has_not_started_has_none() -> None:
    run = make_run(start=False)

    assert of(run).steps == []
    assert chart.drawing(run, list(run.stages.all())) == {}


def test_the_page_draws_it_with_the_bands_of_pauses_and_a_table() -> None:
    run = make_run(items=30)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    lifecycle.resume(run.pk, actor=OPERATOR)
    run = settle(drain(run))
    client = Client()
    client.force_login(User.objects.create_superuser("root"))

    html = client.get(f"/runs/{run.pk}/").content.decode()

    section = html[html.index('<section id="throughput"') :].partition("</section>")[0]
    assert re.search(r'<rect class="band is-of-people"[^>]*><title>This run was paused by olga: lunch\.', section)
    assert re.search(r"UTC: [\d,.]+ items a minute", section)
    assert 'class="done"' in section
    assert section.count("<tr>") > 1
    assert f'data-topic="run-throughput/{run.pk}"' not in html, "an ended run changes no more"
    told: Any = client.get(f"/events/?topic=run-throughput/{run.pk}&once=1")
    assert (
        '<section id=\\"throughput\\"'
        in b"".join(told.streaming_content if told.streaming else [told.content]).decode()
    )
