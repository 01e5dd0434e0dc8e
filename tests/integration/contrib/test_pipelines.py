"""Our own pipelines on the real engine: stops reach into long work, and slices and pauses leave no trace."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from automation.models import AutomationRun, WorkSlice
from automation.reports import status
from automation.runs import creation, lifecycle
from tests.support.factories import OPERATOR, everything, make_run, make_site, outputs, run_loop, settle
from tests.support.pipelines import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

WORDS = [
    f"{topic} {place}" for topic in ("food stamps", "state tax", "summer jobs") for place in ("ohio", "utah", "texas")
]


def content(**params: Any) -> AutomationRun:
    return make_run("content", [{"keyword": word} for word in WORDS], params={"words": 200, **params})


def at_work(run: AutomationRun) -> threading.Thread:
    """A loop of the run in a thread of its own, which has begun its item."""

    def work() -> None:
        try:
            run_loop(run)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: WorkSlice.objects.leased().filter(stage_run__run=run).exists())
    time.sleep(0.3)
    return thread


@pytest.mark.parametrize("mode", ["sleep", "burn"])
def test_a_pause_reaches_into_a_long_item_and_leaves_it_undone(mode):
    params = {"items": 2, "seconds": 60, "mode": mode}
    run = creation.create("drill", site=make_site(), actor=OPERATOR, params=params)
    loop = at_work(run)

    lifecycle.pause(run.pk, actor=OPERATOR)
    loop.join(5)

    assert not loop.is_alive()
    assert status.of(AutomationRun.objects.with_leases().get(pk=run.pk)) == "paused"
    assert outputs(run, "work") == []


def test_the_drill_counts_what_it_was_told_to_fail():
    params = {"items": 10, "seconds": 0, "fail_every": 4}
    run = settle(creation.create("drill", site=make_site(), actor=OPERATOR, params=params))

    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 5, 6, 7, 9, 10]
    assert run.lifecycle == "completed"


def test_content_leaves_pictures_articles_and_a_page_in_the_storage():
    run = settle(content())

    pictures = outputs(run)
    assert run.lifecycle == "completed"
    assert pictures
    for picture in pictures:
        assert default_storage.size(f"runs/{run.pk}/{picture['file']}") == picture["bytes"]
        assert default_storage.exists(f"runs/{run.pk}/{picture['article']}")
    assert default_storage.exists(f"runs/{run.pk}/images/index.html")


def test_two_runs_over_the_same_input_make_the_same_and_a_pause_changes_nothing():
    undisturbed = settle(content())
    disturbed = content()
    run_loop(disturbed)
    lifecycle.pause(disturbed.pk, actor=OPERATOR)
    lifecycle.resume(disturbed.pk, actor=OPERATOR)
    settle(disturbed)

    assert everything(disturbed) == everything(undisturbed)


@pytest.mark.slow
def test_other_parameters_make_something_else():
    assert outputs(settle(content()), "content") != outputs(settle(content(keywords_per_cluster=2)), "content")
