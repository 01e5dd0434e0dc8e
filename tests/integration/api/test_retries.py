"""A new run over what an old one left undone; with real loops."""

from __future__ import annotations

import pytest

from tests.support.api_users import RUNS

pytestmark = pytest.mark.django_db(transaction=True)


def retry(run):
    from automation.runs import retries
    from tests.support.factories import OPERATOR

    return retries.retry_failed(run.pk, actor=OPERATOR, reason="the provider is back")


def all_outputs(*runs):
    """(stage, key, payload) that the runs made between them, the copied items left out."""
    from automation.models import WorkItem
    from automation.pipeline import get_pipeline

    made = []
    for run in runs:
        last = get_pipeline(run.pipeline).stages[-1].slug
        rows = WorkItem.objects.filter(made_by__run=run, made_by__slug=last)
        made += list(rows.values_list("key", "payload"))
    return sorted(made, key=lambda row: row[0])


def test_failed_items_of_a_drill_are_done_again_under_their_keys(api, site):
    from automation.models import AutomationRun
    from automation.runs import creation
    from tests.support.factories import OPERATOR, drain

    old = creation.create("drill", site=site, actor=OPERATOR, params={"items": 10, "seconds": 0, "fail_every": 3})
    drain(old)
    response = api.post(f"{RUNS}{old.pk}/retry-failed/", {"reason": "again"})
    new = AutomationRun.objects.get(pk=response.data["id"])
    AutomationRun.objects.filter(pk=new.pk).update(params=new.params | {"fail_every": 0})
    drain(new)

    assert (response.status_code, response.data["status"], response.data["retry_of"]) == (201, "running", str(old.pk))
    assert response.data["total_items"] == 3
    assert response.data["params"] == old.params
    assert [payload["n"] for _, payload in all_outputs(old, new)] == list(range(1, 11))
    assert [key for key, _ in all_outputs(new)] == ["002.000", "005.000", "008.000"]
    old_shown, new_shown = (api.get(f"{RUNS}{run.pk}/").data for run in (old, new))
    assert (old_shown["retried_by"], new_shown["status"]) == (str(new.pk), "completed")
    assert api.get(f"{RUNS}{old.pk}/events/?action=retry").data["results"][0]["reason"] == "again"


def test_a_second_retry_is_refused_and_names_the_first(api, site):
    from tests.support.factories import drain, make_run

    old = make_run("failing", site=site, items=7)
    drain(old)
    new = retry(old)

    refused = api.post(f"{RUNS}{old.pk}/retry-failed/")

    assert (refused.status_code, refused.data["status"]) == (409, "completed_with_failures")
    assert refused.data["message"] == f"Cannot retry run {old.pk}: it was retried before, by run {new.pk}."


def test_a_run_without_failures_is_refused(api, site):
    from automation.models import AutomationRun
    from tests.support.factories import drain, make_run

    old = make_run(site=site)
    drain(old)

    refused = api.post(f"{RUNS}{old.pk}/retry-failed/")

    assert refused.data["message"] == f"Cannot retry run {old.pk}: it has no unfinished items."
    assert AutomationRun.objects.count() == 1


def test_a_run_whose_workers_still_finish_is_refused(site):
    from automation import leases
    from automation.errors import TransitionRefused
    from automation.runs import failing
    from tests.support.factories import claim, make_run

    old = make_run("scripted", site=site)
    work = claim(old)
    assert work is not None
    failing.fail(old.pk, reason="for the test")

    with pytest.raises(TransitionRefused, match="workers are still finishing"):
        retry(old)
    leases.release(work)

    assert retry(old).retry_of_id == old.pk


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slug", "item"),
    [
        *(("breakable", item) for item in (1, 4, 9, 17, 24, 31, 40, 55)),
        *(("breakable-branches", item) for item in (1, 4, 17, 24, 31, 46, 47, 80)),
        *(("breakable-finish", item) for item in (1, 4, 9, 17, 23)),
    ],
)
def test_a_run_that_failed_anywhere_is_completed_by_its_retry(site, slug, item):
    from tests.support.breakable_pipelines import broken_at
    from tests.support.factories import drain, make_run

    whole = make_run(slug, site=site, items=23)
    drain(whole)
    old = make_run(slug, site=site, items=23)
    with broken_at(item):
        drain(old)

    assert old.lifecycle == "failed"
    new = drain(retry(old))

    assert new.lifecycle == "completed"
    assert made_once(slug, old, new) == made_once(slug, whole)


def made_once(slug, *runs):
    """The outputs of the last stage, without repeats where an item may be done again to the same effect."""
    made = all_outputs(*runs)
    return made if slug == "breakable" else sorted({(key, str(payload)) for key, payload in made})


def test_a_stage_whose_finish_failed_is_done_again_as_a_whole(site):
    from tests.support.breakable_pipelines import broken_finish
    from tests.support.factories import drain, make_run

    old = make_run("breakable-finish", site=site, items=6)
    with broken_finish():
        drain(old)
    new = drain(retry(old))

    assert (old.lifecycle, new.lifecycle, new.total_items) == ("failed", "completed", 6)
    assert [payload["n"] for _, payload in all_outputs(new)] == [1, 2, 3, 4, 5, 6]
    assert new.stages.get(slug="counted").slices.filter(phase=2, finished_at__isnull=False).exists()


def test_items_of_one_branch_are_not_taken_for_those_of_the_other(site):
    from automation.models import WorkItem
    from tests.support.breakable_pipelines import failing_items
    from tests.support.factories import drain, make_run

    old = make_run("breakable-branches", site=site, items=4)
    with failing_items("join", lambda item: item["path"] == ["right"] and item["n"] == 3):
        drain(old)
    new = drain(retry(old))

    copied = WorkItem.objects.filter(made_by__run=new).exclude(made_by__slug="join")
    assert [(row.made_by.slug, row.key) for row in copied.select_related("made_by")] == [("right", "002.000")]
    assert new.lifecycle == "completed"
    assert len(all_outputs(old)) == 7
    assert [payload for _, payload in all_outputs(new)] == [{"n": 3, "path": ["right", "join"]}]
