"""The endpoints that name a site."""

from __future__ import annotations

import pytest

from tests.support.api_users import AUTOMATION

pytestmark = pytest.mark.django_db(transaction=True)


def post(api, verb, query, body=None):
    return api.post(f"{AUTOMATION}{verb}/?{query}", body)


@pytest.mark.parametrize("by", ["slug", "id"])
def test_pause_resume_and_cancel_the_run_of_a_site(api, site, by):
    from tests.support.factories import make_run

    run = make_run(site=site)
    query = f"site_id={site.slug if by == 'slug' else site.pk}"

    answers = [post(api, verb, query, {"reason": verb}) for verb in ("pause", "pause", "resume", "resume", "cancel")]

    assert [(answer.status_code, answer.data["status"]) for answer in answers] == [
        (200, "paused"),
        (200, "paused"),
        (200, "running"),
        (409, "running"),
        (200, "cancelled"),
    ]
    assert {answer.data["id"] for answer in answers if answer.status_code == 200} == {str(run.pk)}
    assert post(api, "cancel", query).data["code"] == "no_run"


def test_a_named_run_must_be_of_the_named_site(api, site, their_site, operator):
    from automation.models import Membership
    from tests.support.factories import make_run

    Membership.objects.create(account=their_site.account, user=operator)
    run = make_run(site=site)

    assert post(api, "pause", f"run_id={run.pk}&site_id=theirs").status_code == 404
    assert post(api, "pause", f"run_id={run.pk}&site_id=ours").data["status"] == "paused"


def test_several_runs_are_not_guessed_among(api, site):
    from tests.support.factories import make_run

    first, second = make_run(site=site), make_run(site=site)

    refused = post(api, "cancel", "site_id=ours")
    post(api, "pause", f"run_id={first.pk}")
    resumed = post(api, "resume", "site_id=ours")

    assert (refused.status_code, refused.data["code"]) == (409, "run_ambiguous")
    assert str(first.pk) in refused.data["message"]
    assert str(second.pk) in refused.data["message"]
    assert (resumed.status_code, resumed.data["id"]) == (200, str(first.pk))


def test_neither_run_nor_site_is_400(api):
    response = post(api, "pause", "")

    assert (response.status_code, response.data["message"]) == (400, "expected run_id, site_id or both, got neither")


def test_the_current_run_is_the_one_at_work_then_the_one_that_waits(api, site):
    from automation.runs import lifecycle
    from tests.support.factories import OPERATOR, make_run

    def current():
        run = api.get(f"{AUTOMATION}current_run/?site_id=ours").data["run"]
        return run and run["id"]

    at_work, waits = make_run(site=site), make_run(site=site, start=False)

    assert current() == str(at_work.pk)
    lifecycle.cancel(at_work.pk, actor=OPERATOR)
    assert current() == str(waits.pk)
    lifecycle.cancel(waits.pk, actor=OPERATOR)
    assert current() is None
    assert api.get(f"{AUTOMATION}current_processing/?site_id=ours").data["run_id"] is None


@pytest.mark.req("A-37")
def test_history_is_the_last_20_runs_of_the_site(api, site):
    from tests.support.factories import make_run

    made = [str(make_run(site=site, items=1, start=False).pk) for _ in range(22)]

    for query in ("", "?site_id=ours"):
        found = api.get(f"{AUTOMATION}history/{query}").data["results"]
        assert [entry["id"] for entry in found] == made[:1:-1]


@pytest.mark.req("A-07")
@pytest.mark.req("A-08")
def test_logs_are_lines_of_text_oldest_first(api, site):
    from tests.support.factories import make_run

    run = make_run(site=site)
    post(api, "pause", f"run_id={run.pk}", {"reason": "lunch"})

    everything = api.get(f"{AUTOMATION}logs/?run_id={run.pk}").data
    last = api.get(f"{AUTOMATION}logs/?run_id={run.pk}&lines=1").data

    assert everything["run_id"] == str(run.pk)
    assert [line.split()[2] for line in everything["lines"]] == ["create", "start", "stage_started", "hold_placed"]
    assert last["lines"] == everything["lines"][-1:]
    assert last["lines"][0].endswith("hold_placed by user:alice through api: lunch")


def test_logs_need_a_run(api):
    response = api.get(f"{AUTOMATION}logs/")

    assert (response.status_code, response.data["message"]) == (400, "run_id: This field is required.")
