"""Totals, processed, percentage: they add up, never fall, and end at 100."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automation.models import AutomationRun, Lifecycle
from automation.pipeline import get_pipeline
from automation.reports import progress
from automation.runs import lifecycle
from tests.support.factories import OPERATOR, claim, drain, everybody_has_heard, make_run, run_loop, stage_of
from tests.support.pipelines import Fan, Scripted, scripted


def adds_up(part: dict[str, Any]) -> bool:
    parts = sum(part[name] for name in ("processed_items", "failed_items", "remaining_count"))
    return bool(parts == part["total_items"])


@pytest.mark.req("A-09")
@pytest.mark.req("A-12")
@pytest.mark.django_db(transaction=True)
def test_34_of_50_are_68_percent_and_16_are_left(monkeypatch):
    monkeypatch.setattr(Scripted, "slice_size", 17)
    run = make_run("scripted", items=50)

    def script(payload, ctx):
        if payload["n"] == 34:
            lifecycle.pause(run.pk, actor=OPERATOR)
            everybody_has_heard()

    with scripted(script):
        run_loop(run)

    run.refresh_from_db()
    snapshot = progress.snapshot(run)
    counts = {"total_items": 50, "processed_items": 34, "failed_items": 0, "remaining_count": 16, "percentage": 68.0}
    assert counts.items() <= snapshot["overall"].items()
    assert counts.items() <= snapshot["stages"][0].items()
    assert (snapshot["status"], snapshot["stages"][0]["status"]) == ("paused", "paused")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slug", ["numbers", "fan-out", "chain", "failing", "diamond", "empty"])
def test_counts_add_up_and_never_fall_at_any_item(slug, monkeypatch):
    """Invariant 7, and A-10: totals are fixed when the stage starts."""
    for stage in set(get_pipeline(slug).stages):
        monkeypatch.setattr(stage, "checkpoint_interval", 0)
    seen: list[dict[str, Any]] = []
    run = make_run(slug, items=13)
    for stage in set(get_pipeline(slug).stages):
        if stage is not Fan:
            monkeypatch.setattr(stage, "process", _watching(stage.process, run, seen))
    drain(run)
    seen.append(progress.snapshot(run))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert seen[-1]["overall"]["percentage"] == 100.0
    for snapshot in seen:
        assert all(adds_up(part) for part in (snapshot["overall"], *snapshot["stages"]))
    for earlier, later in itertools.pairwise(seen):
        for then, now in zip(
            (earlier["overall"], *earlier["stages"]), (later["overall"], *later["stages"]), strict=True
        ):
            for name in ("processed_items", "failed_items", "percentage"):
                assert now[name] >= then[name], (name, then, now)
            assert now["total_items"] == then["total_items"] or then["total_items"] == 0


def _watching(process, run, seen):
    def watching(self, item, ctx):
        seen.append(progress.snapshot(AutomationRun.objects.get(pk=run.pk)))
        return process(self, item, ctx)

    return watching


shares = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(1, 400)), min_size=1, max_size=6)


@given(st.integers(1, 1000), shares, st.integers(0, 5), st.booleans())
def test_one_more_item_done_lowers_no_figure_of_the_whole(total, stages, index, is_failure):
    before = [(min(ok, size), min(bad, size - min(ok, size)), size) for ok, bad, size in stages]
    after = list(before)
    ok, bad, size = after[index % len(after)]
    if ok + bad < size:
        after[index % len(after)] = (ok, bad + 1, size) if is_failure else (ok + 1, bad, size)

    then, now = (
        progress.whole(total, [(ok / size, bad / size) for ok, bad, size in facts]) for facts in (before, after)
    )

    assert now["processed_items"] >= then["processed_items"]
    assert now["failed_items"] >= then["failed_items"]
    assert now["percentage"] >= then["percentage"]
    assert adds_up(now)
    assert now["remaining_count"] >= 0


@given(st.integers(1, 10_000_000), st.lists(st.integers(1, 10_000_000), min_size=1, max_size=6))
def test_a_hundred_percent_is_said_only_when_nothing_is_left(total, sizes):
    shares = [(1.0, 0.0)] * (len(sizes) - 1) + [((sizes[-1] - 1) / sizes[-1], 0.0)]

    assert progress.whole(total, shares)["percentage"] < 100


@pytest.mark.django_db(transaction=True)
def test_a_stage_without_items_that_has_not_started_is_at_zero():
    run = make_run("fan-out", items=3)

    stages = progress.snapshot(run)["stages"]

    assert [(stage["status"], stage["percentage"]) for stage in stages] == [("running", 0.0), ("pending", 0.0)]


@pytest.mark.django_db(transaction=True)
def test_what_is_at_work_and_what_comes_next_is_shown():
    run = make_run("scripted", items=7)
    claim(run, "a")

    [lease] = progress.snapshot(run)["in_flight"]

    assert (lease["worker"], lease["stage"], lease["item"]) == ("test/a", "scripted", "000")
    assert [item["payload"]["n"] for item in lease["items"]] == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_progress_of_a_run_costs_the_same_whatever_its_size(django_assert_max_num_queries):
    run = make_run("few", items=200)
    claim(run)

    with django_assert_max_num_queries(5):
        progress.snapshot(run)

    assert stage_of(run).slices.count() == 200
