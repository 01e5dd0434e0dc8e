"""Pause, resume and cancel of many runs in one call."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.support.api_users import RUNS, client_of

pytestmark = pytest.mark.django_db(transaction=True)


def make_runs(site, count=3, **more):
    from tests.support.factories import make_run

    return [make_run("scripted", site=site, items=4, **more) for _ in range(count)]


def ids_of(*runs):
    return [str(run.pk) for run in runs]


def statuses(api, runs):
    return [api.get(f"{RUNS}{run.pk}/").data["status"] for run in runs]


@pytest.mark.req("M-26")
@pytest.mark.req("A-41")
def test_each_run_is_changed_or_refused_by_itself(api, site):
    from automation.runs import lifecycle
    from tests.support.factories import OPERATOR

    one, other, ended = make_runs(site)
    lifecycle.cancel(ended.pk, actor=OPERATOR)
    unknown = str(uuid4())

    answer = api.post(f"{RUNS}pause/", {"ids": [*ids_of(one, ended, other), unknown], "reason": "a fault"})

    assert answer.status_code == 200
    assert sorted(answer.data["done"]) == sorted(ids_of(one, other))
    assert answer.data["more"] is False
    refused = {entry["id"]: (entry["code"], entry["sentence"]) for entry in answer.data["refused"]}
    assert refused == {
        str(ended.pk): ("transition_refused", f"Cannot pause run {ended.pk}: it is cancelled."),
        unknown: ("not_found", f"Cannot find run {unknown}: there is none that you may see."),
    }
    assert statuses(api, [one, other]) == ["paused", "paused"]
    (event,) = api.get(f"{RUNS}{one.pk}/events/?action=hold_placed").data["results"]
    assert (event["actor"], event["reason"]) == ("user:alice", "a fault")


def test_a_filter_means_those_that_the_verb_would_change(api, site):
    from tests.support.factories import make_run

    runs = make_runs(site)
    elsewhere = make_run("numbers", site=site, items=4)
    api.post(f"{RUNS}{runs[0].pk}/pause/")

    paused = api.post(f"{RUNS}pause/", {"filter": {"pipeline": "scripted"}})
    assert sorted(paused.data["done"]) == sorted(ids_of(*runs[1:]))
    assert paused.data["refused"] == []
    assert statuses(api, [elsewhere]) != ["paused"]

    resumed = api.post(f"{RUNS}resume/", {"filter": {"status": "paused", "site": "ours"}})
    assert sorted(resumed.data["done"]) == sorted(ids_of(*runs))
    cancelled = api.post(f"{RUNS}cancel/", {"filter": {"site": "ours"}})
    assert len(cancelled.data["done"]) == 4
    assert api.post(f"{RUNS}cancel/", {"filter": {"site": "ours"}}).data == {"done": [], "refused": [], "more": False}


def test_a_resume_by_filter_leaves_what_no_operator_holds(api, site):
    from automation.pipeline import NeedsInput
    from tests.support.factories import drain, make_run
    from tests.support.pipelines import scripted

    def asks(item, ctx):
        raise NeedsInput("Well?")

    with scripted(asks):
        run = drain(make_run("scripted", site=site, items=3))

    assert api.post(f"{RUNS}resume/", {"filter": {"site": "ours"}}).data["refused"] == []
    (refused,) = api.post(f"{RUNS}resume/", {"ids": ids_of(run)}).data["refused"]
    assert "is kept by a needs_input hold" in refused["sentence"]


def test_more_than_at_once_are_done_call_by_call(api, site, monkeypatch):
    monkeypatch.setattr("automation.api.runs.bulk.MOST_RUNS", 2)
    runs = make_runs(site)

    first = api.post(f"{RUNS}pause/", {"filter": {"site": "ours"}})
    second = api.post(f"{RUNS}pause/", {"filter": {"site": "ours"}})

    assert (len(first.data["done"]), first.data["more"]) == (2, True)
    assert (second.data["done"], second.data["more"]) == (ids_of(runs[2]), False)


def test_of_many_that_are_cancelled_the_rest_end_by_the_reconciler(api, site, monkeypatch):
    from automation.runs import reconciler

    monkeypatch.setattr("automation.runs.lifecycle.ENDED_AT_ONCE", 1)
    runs = make_runs(site)

    answer = api.post(f"{RUNS}cancel/", {"ids": ids_of(*runs), "reason": "a fault"})
    assert len(answer.data["done"]) == 3
    assert sorted(statuses(api, runs)) == ["cancelled", "cancelling", "cancelling"]
    reconciler.reconcile()

    assert statuses(api, runs) == ["cancelled"] * 3
    for run in runs:
        (event,) = api.get(f"{RUNS}{run.pk}/events/?action=cancel_requested").data["results"]
        assert (event["actor"], event["reason"]) == ("user:alice", "a fault")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": ["latest"]},
        {"filter": {}},
        {"filter": {"status": "odd"}},
        {"filter": {"sites": "ours"}},
        {"ids": [str(uuid4())], "filter": {"site": "ours"}},
        {"ids": [str(uuid4())] * 1_001},
    ],
)
def test_a_call_that_names_no_runs_or_too_many_is_refused(api, site, body):
    assert api.post(f"{RUNS}pause/", body).status_code == 400


@pytest.mark.req("A-36")
def test_runs_of_others_are_not_found(stranger, site, their_site):
    runs = make_runs(site)
    client = client_of(stranger)

    refused = client.post(f"{RUNS}cancel/", {"ids": ids_of(*runs)}).data
    assert refused["done"] == []
    assert {entry["code"] for entry in refused["refused"]} == {"not_found"}
    assert client.post(f"{RUNS}cancel/", {"filter": {"pipeline": "scripted"}}).data["done"] == []
    assert client.post(f"{RUNS}cancel/", {"filter": {"site": "ours"}}).status_code == 404


@pytest.mark.req("W-47")
def test_a_repeat_with_the_same_key_gets_the_first_answer(api, site):
    runs = make_runs(site)
    key = {"Idempotency-Key": "bulk-1"}

    first = api.post(f"{RUNS}cancel/", {"ids": ids_of(*runs)}, headers=key)
    second = api.post(f"{RUNS}cancel/", {"ids": ids_of(*runs)}, headers=key)
    other = api.post(f"{RUNS}cancel/", {"ids": ids_of(runs[0])}, headers=key)

    assert first.data == second.data
    assert other.status_code == 422
    for run in runs:
        assert len(api.get(f"{RUNS}{run.pk}/events/?action=cancel_requested").data["results"]) == 1
    assert len(api.post(f"{RUNS}cancel/", {"ids": ids_of(*runs)}).data["done"]) == 3
