"""Progress, stages, items, failures, events, reasons and pipelines over HTTP."""

from __future__ import annotations

import pytest

from tests.support.api_users import AUTOMATION, RUNS

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(site):
    from tests.support.factories import make_run

    return make_run("scripted", site=site, items=50)


def get(api, run, path):
    response = api.get(f"{RUNS}{run.pk}/{path}")
    assert response.status_code == 200, response.data
    return response.data


@pytest.mark.req("A-12")
def test_34_of_50_are_68_percent_and_16_are_left(api, run):
    from automation.leases import checkpoint
    from automation.leases.checkpoint import Progress
    from tests.support.factories import claim

    for _ in range(6):
        work = claim(run)
        assert work is not None
        checkpoint.commit(work, Progress(cursor=work.last_key, processed=5))
    work = claim(run, "last")
    assert work is not None
    checkpoint.commit(work, Progress(cursor="033", processed=3, failed=1))

    told = get(api, run, "progress/")
    current = api.get(f"{AUTOMATION}current_processing/?site_id=ours").data

    stage = told["stages"][0]
    assert (stage["slug"], stage["title"], stage["status"]) == ("scripted", "Scripted", "running")
    counts = {name: stage[name] for name in ("total_items", "processed_items", "failed_items", "remaining_count")}
    assert counts == {"total_items": 50, "processed_items": 33, "failed_items": 1, "remaining_count": 16}
    assert stage["percentage"] == told["overall"]["percentage"] == current["percentage"] == 68.0
    assert current["remaining_count"] == 16
    assert [(entry["worker"], entry["item"]) for entry in told["in_flight"]] == [("test/last", "034")]
    assert [(entry["worker"], entry["title"]) for entry in current["now"]] == [("test/last", "35")]
    assert [entry["title"] for entry in current["next"]] == ["36", "37", "38", "39", "40"]


def test_items_now_and_next_never_overlap(api, run):
    from tests.support.factories import claim

    claim(run, "a")
    claim(run, "b")

    current = api.get(f"{AUTOMATION}current_processing/?run_id={run.pk}").data

    assert [entry["key"] for entry in current["now"]] == ["000", "005"]
    assert [entry["key"] for entry in current["next"]] == ["001", "002", "003", "004", "006"]


def test_stages_show_their_slices(api, run):
    from tests.support.factories import claim, drain

    claim(run)
    (at_work,) = get(api, run, "stages/")["results"]
    drain(run)

    assert (at_work["slices"], at_work["open_slices"], at_work["leased_slices"]) == (10, 10, 1)
    assert (at_work["lifecycle"], at_work["total_items"], at_work["finished_at"]) == ("running", 50, None)


def test_stages_are_a_graph_with_live_states(api, site):
    from tests.support.factories import drain, make_run, run_loop

    run = make_run("diamond", items=3, site=site)
    run_loop(run, "left")
    halfway = get(api, run, "stages/")["results"]
    drain(run)
    whole = get(api, run, "stages/")["results"]

    told = [(stage["slug"], stage["after"], stage["waits_for"], stage["status"]) for stage in halfway]
    assert told == [
        ("left", ["input"], [], "completed"),
        ("right", ["input"], [], "running"),
        ("join", ["left", "right"], ["right"], "pending"),
    ]
    assert [(stage["waits_for"], stage["status"]) for stage in whole] == [([], "completed")] * 3


def test_items_are_paged_by_key_with_their_source(api, run):
    from tests.support.factories import drain

    drain(run)
    page, found = get(api, run, "items/?stage=scripted&limit=20"), []
    while True:
        found += page["results"]
        if page["next"] is None:
            break
        page = api.get(page["next"]).data

    assert [entry["payload"]["n"] for entry in found] == list(range(1, 51))
    assert found[0] == {"key": "000.000", "payload": {"n": 1}, "source": "000"}
    given = get(api, run, "items/?stage=input&limit=1")["results"]
    assert given == [{"key": "000", "payload": {"n": 1}, "source": ""}]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("", "stage: This field is required."), ("?stage=nope", "stage: expected one of input, scripted, got: nope")],
)
def test_items_of_no_stage_are_400(api, run, query, sentence):
    response = api.get(f"{RUNS}{run.pk}/items/{query}")

    assert (response.status_code, response.data["message"]) == (400, sentence)


def test_failures_name_item_error_and_tries(api, site):
    from tests.support.factories import drain, make_run

    run = make_run("failing", site=site, items=7)
    drain(run)

    first = get(api, run, "failures/?limit=1&stage=failing")
    second = api.get(first["next"]).data

    found = first["results"] + second["results"]
    assert [(entry["stage"], entry["key"], entry["payload"]) for entry in found] == [
        ("failing", "002", {"n": 3}),
        ("failing", "005", {"n": 6}),
    ]
    assert (found[0]["error"], found[0]["attempts"]) == ("ValueError: cannot digest 3", 3)
    assert second["next"] is None


def test_events_are_newest_first_and_paged(api, run):
    from automation.runs import lifecycle
    from tests.support.factories import OPERATOR

    for _ in range(3):
        lifecycle.pause(run.pk, actor=OPERATOR)
        lifecycle.resume(run.pk, actor=OPERATOR)

    page = get(api, run, "events/?limit=5")
    rest = api.get(page["next"]).data["results"]

    actions = [entry["action"] for entry in page["results"] + rest]
    assert actions == [*["hold_released", "hold_placed"] * 3, "stage_started", "start", "create"]


@pytest.mark.req("M-13")
def test_explain_says_who_keeps_it_and_what_will_start(api, run):
    from automation.leases import checkpoint
    from automation.leases.checkpoint import Progress
    from tests.support.factories import claim

    work = claim(run)
    assert work is not None
    checkpoint.commit(work, Progress(cursor="001", processed=2))
    api.post(f"{RUNS}{run.pk}/pause/", {"reason": "the model is wrong"})

    told = get(api, run, "explain/")

    (reason,) = told["reasons"]
    assert (told["status"], told["may_proceed"], reason["code"]) == ("pausing", False, "operator")
    assert reason["sentence"] == "This run was paused by alice: the model is wrong."
    assert (reason["actor"], reason["lifted_by"]) == ("user:alice", "an operator resumes it")
    assert told["will_start"] == [{"stage": "scripted", "title": "Scripted", "items": 47}]
    api.post(f"{RUNS}{run.pk}/resume/")
    assert get(api, run, "explain/")["may_proceed"] is True


def test_a_pending_run_will_start_with_its_whole_input(api, site):
    from tests.support.factories import make_run

    run = make_run("ladder", site=site, items=4, start=False)

    will_start = get(api, run, "explain/")["will_start"]

    assert [(entry["stage"], entry["items"]) for entry in will_start] == [("left", 4), ("right", 4)]


def test_pipelines_tell_stages_and_parameters(api):
    found = {entry["slug"]: entry for entry in api.get(f"{AUTOMATION}pipelines/").data["results"]}

    content, drill = found["content"], found["drill"]
    assert len(content["stages"]) == 6
    assert content["stages"][0]["after"] == ["input"]
    assert content["stages"][1]["after"] == [content["stages"][0]["slug"]]
    assert (content["needs_input"], drill["needs_input"]) == (True, False)
    params = {entry["name"]: entry for entry in drill["params"]}
    assert params["items"] == {
        "name": "items",
        "type": "int",
        "default": 100,
        "help": "Number of items.",
        "minimum": 1.0,
        "maximum": 10_000_000.0,
        "choices": [],
    }
    assert params["mode"]["choices"] == ["sleep", "burn"]


@pytest.mark.parametrize("path", ["", "progress/", "stages/", "explain/", "events/", "failures/", "items/?stage=input"])
def test_the_queries_of_a_view_do_not_grow_with_the_run(operator, site, path):
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from tests.support.api_users import client_of
    from tests.support.factories import claim, make_run

    counts = set()
    for items, claims in ((5, 1), (500, 20)):
        run = make_run("scripted", site=site, items=items)
        for number in range(claims):
            claim(run, str(number))
        api = client_of(User.objects.get(pk=operator.pk))
        with CaptureQueriesContext(connection) as queries:
            get(api, run, path)
        counts.add(len(queries))

    assert len(counts) == 1
