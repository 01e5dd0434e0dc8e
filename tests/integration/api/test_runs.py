"""Runs over HTTP: create, list, show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.support.api_users import RUNS, client_of

pytestmark = pytest.mark.django_db


def everything():
    from automation.models import AutomationRun, WorkItem

    return AutomationRun.objects.count(), WorkItem.objects.count()


def upload(api, content: bytes, name: str = "words.csv", **fields):
    given = {"pipeline": "content", "site": "ours", "start": "false", "input": SimpleUploadedFile(name, content)}
    return api.post(RUNS, given | fields, format="multipart")


def test_a_run_is_created_started_and_shown_alike(api):
    made = api.post(RUNS, {"pipeline": "drill", "site": "ours", "params": {"items": 3}})

    assert made.status_code == 201
    assert made.data["status"] == made.data["lifecycle"] == "running"
    assert made.data["params"] == {
        "items": 3,
        "seconds": 0.1,
        "mode": "sleep",
        "stubborn": False,
        "memory_mib": 0,
        "fail_every": 0,
    }
    assert (made.data["site"], made.data["pipeline"], made.data["total_items"]) == ("ours", "drill", 3)
    assert made.data["created_by"] == "user:alice"
    assert made.data["started_at"]
    assert made.data["paused_at"] is made.data["cancelled_at"] is made.data["completed_at"] is None
    assert made.headers["Location"].endswith(f"{RUNS}{made.data['id']}/")
    shown = api.get(made.headers["Location"]).json()
    moving = ("total_seconds", "active_seconds")
    assert {**shown, **dict.fromkeys(moving)} == {**json.loads(made.content), **dict.fromkeys(moving)}


@pytest.mark.parametrize("name", ["input", "site", "params"])
def test_what_comes_twice_in_a_form_is_refused_and_nothing_of_it_is_dropped(api, name):
    given: dict[str, Any] = {
        "input": [SimpleUploadedFile(f"{n}.csv", b"kettle\n") for n in range(2)],
        "site": ["theirs", "ours"],
        "params": ['{"words": 300}', "{}"],
    }

    refused = upload(api, b"kettle\n", **{name: given[name]})

    assert refused.status_code == 400
    assert refused.data["fields"] == {name: ["expected once, got 2 of it."]}
    assert everything() == (0, 0)
    assert api.get(f"{RUNS}?status=paused&status=failed").status_code == 400


@pytest.mark.req("W-52")
def test_a_run_can_have_a_time_out(api):
    made = api.post(RUNS, {"pipeline": "drill", "site": "ours", "timeout_seconds": 90, "start": False})
    uploaded = upload(api, b"kettle\n", timeout_seconds="0.5")
    without = api.post(RUNS, {"pipeline": "drill", "site": "ours", "start": False})

    assert [each.data["timeout_seconds"] for each in (made, uploaded, without)] == [90.0, 0.5, None]
    before = everything()
    for wrong in (0, -1, "soon", "inf", None, True):
        refused = api.post(RUNS, {"pipeline": "drill", "site": "ours", "timeout_seconds": wrong})
        assert refused.status_code == 400, refused.data
        assert "timeout_seconds" in json.dumps(refused.json())
    assert everything() == before


def test_start_false_leaves_it_pending(api):
    made = api.post(RUNS, {"pipeline": "drill", "site": "ours", "start": False})

    assert made.data["status"] == "pending"
    assert made.data["started_at"] is made.data["start_requested_at"] is None


def test_a_site_can_be_named_by_its_id(api, site):
    made = api.post(RUNS, {"pipeline": "drill", "site": str(site.pk), "start": False})

    assert made.data["site"] == "ours"


def test_keywords_come_as_items_and_repeats_are_left_out(api):
    items = [{"keyword": "tea  pot"}, {"keyword": "Tea Pot"}, {"keyword": "kettle", "volume": 5}]

    made = api.post(RUNS, {"pipeline": "content", "site": "ours", "items": items, "start": False})

    assert made.data["total_items"] == 2
    found = api.get(f"{RUNS}{made.data['id']}/items/?stage=input").data["results"]
    assert [entry["payload"] for entry in found] == [{"keyword": "tea pot"}, {"keyword": "kettle", "volume": 5}]


def test_items_of_other_pipelines_need_no_keyword(api):
    from tests.support import pipelines

    assert pipelines
    made = api.post(RUNS, {"pipeline": "numbers", "site": "ours", "items": [{"n": 1}, {"n": 2}], "start": False})

    assert made.data["total_items"] == 2


def test_keywords_come_as_a_file(api):
    made = upload(api, b"keyword,volume\nkettle,10\nteapot,20\n", params='{"words": 300}')

    assert made.status_code == 201
    assert (made.data["total_items"], made.data["params"]["words"]) == (2, 300)
    found = api.get(f"{RUNS}{made.data['id']}/items/?stage=input").data["results"]
    assert found[0]["payload"] == {"keyword": "kettle", "volume": "10"}


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({}, "invalid", "pipeline: This field is required."),
        ({"site": "ours"}, "invalid", "pipeline: This field is required."),
        ({"pipelin": "drill"}, "invalid", "Did you mean pipeline?"),
        ({"pipeline": "drill", "site": "ours", "speed": 9}, "invalid", "speed: Unknown: expected one of pipeline"),
        ({"pipeline": "nope", "site": "ours"}, "pipeline_unknown", "expected one of "),
        (
            {"pipeline": "drill", "site": "ours", "params": {"n": 1}},
            "params_invalid",
            "drill takes fail_every",
        ),
        ({"pipeline": "drill", "site": "ours", "params": {"items": "x"}}, "params_invalid", "expected a whole number"),
        ({"pipeline": "drill", "site": "ours", "params": {"items": 0}}, "params_invalid", "at least 1"),
        ({"pipeline": "drill", "site": "ours", "params": []}, "invalid", "params: "),
        ({"pipeline": "drill", "site": "ours", "items": [{"n": 1}]}, "input_invalid", "takes no input"),
        ({"pipeline": "content", "site": "ours"}, "input_invalid", "needs input items, got none"),
        ({"pipeline": "content", "site": "ours", "items": []}, "input_invalid", "has no items"),
        ({"pipeline": "content", "site": "ours", "items": {}}, "invalid", "items: expected a list of objects"),
        (
            {"pipeline": "content", "site": "ours", "items": ["tea"]},
            "invalid",
            "item 1: expected an object, got",
        ),
        (
            {"pipeline": "content", "site": "ours", "items": [{"keyword": "tea"}, {"word": "pot"}]},
            "input_invalid",
            "item 2: expected an object with a text 'keyword'",
        ),
        ({"pipeline": "content", "site": "ours", "items": [{"word": "pot"}]}, "input_invalid", "text 'keyword'"),
        ({"pipeline": "content", "site": "ours", "items": [{"keyword": " "}]}, "input_invalid", "has no keywords"),
        ([], "invalid", "Expected a dictionary"),
    ],
)
def test_a_wrong_request_says_what_was_expected_and_creates_nothing(api, body, code, sentence):
    response = api.post(RUNS, body)

    assert response.status_code == 400
    assert response.data["code"] == code
    assert sentence in response.data["message"]
    assert everything() == (0, 0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"pipeline": ', "it is not valid JSON"),
        ('{"pipeline": NaN}', "pipeline is nan, which is not a number"),
        ('{"pipeline": "numbers", "site": "ours", "items": [{"n": 1}, {"n": [0.5, 1e999]}]}', "items[1].n[1] is inf"),
        ('{"pipeline": "numbers", "site": "ours", "items": [{"n": -Infinity}]}', "items[0].n is -inf"),
        ('{"pipeline": "drill", "site": "a\\u0000b"}', "a NUL character"),
        ('{"pipeline": "drill", "site": "ours", "params": {"mode": "\\ud800"}}', "half a character"),
        ('{"pipeline": "drill", "site": "ours", "params": {"items": 1e999}}', "params.items is inf"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", "it is not valid JSON"),
    ],
)
def test_a_body_that_cannot_be_stored_is_400(api, text, sentence):
    response = api.post(RUNS, text, content_type="application/json")

    assert response.status_code == 400
    assert sentence in response.data["message"]
    assert everything() == (0, 0)


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (b"", "empty.csv", "empty.csv"),
        (b"keyword\ntea\n" + b"x" * 600 + b"\n", "long.csv", "line 3"),
        (b'keyword\n"tea\n', "quote.csv", "a quote that opens here is never closed"),
    ],
)
def test_a_bad_file_names_line_and_reason(api, content, name, sentence):
    response = upload(api, content, name)

    assert response.status_code == 400
    assert response.data["code"] == "input_invalid"
    assert sentence in response.data["message"]
    assert everything() == (0, 0)


def test_parameters_in_a_form_must_be_an_object(api):
    response = upload(api, b"tea\n", params="[1]")

    assert response.status_code == 400
    assert "params: expected a JSON object" in response.data["message"]


def test_too_large_bodies_are_refused_before_they_are_read(api, site, settings):
    from tests.support.factories import make_run

    settings.AUTOMATION = {**settings.AUTOMATION, "max_json_bytes": 1_000, "max_upload_bytes": 2_000}
    items = [{"keyword": f"word {n}"} for n in range(100)]

    by_json = api.post(RUNS, {"pipeline": "content", "site": "ours", "items": items})
    by_file = upload(api, b"a word\n" * 1_000)
    run = make_run(site=site, start=False)
    by_reason = api.post(f"{RUNS}{run.pk}/pause/", {"reason": "x" * (1 << 20)})

    assert api.get(RUNS).data["results"][0]["paused_at"] is None
    assert by_json.status_code == by_file.status_code == by_reason.status_code == 413
    assert by_json.data["code"] == "body_too_large"
    assert "expected a body of at most 1,000 bytes" in by_json.data["message"]
    assert everything() == (1, 10)


def test_other_media_types_are_415(api):
    response = api.post(RUNS, "pipeline=drill", content_type="application/x-www-form-urlencoded")

    assert response.status_code == 415
    assert response.data["code"] == "unsupported_media_type"


def test_pages_show_every_run_once_newest_first(api, site):
    from tests.support.factories import make_run

    made = [str(make_run(site=site, start=False).pk) for _ in range(7)]
    url, seen = f"{RUNS}?limit=3&pipeline=numbers", []
    while url:
        page = api.get(url).data
        assert len(page["results"]) <= 3
        seen += [entry["id"] for entry in page["results"]]
        url = page["next"]

    assert seen == made[::-1]


def test_a_page_is_not_disturbed_by_new_runs(api, site):
    from tests.support.factories import make_run

    made = [str(make_run(site=site, start=False).pk) for _ in range(4)]
    first = api.get(f"{RUNS}?limit=2").data
    make_run(site=site, start=False)

    assert [entry["id"] for entry in api.get(first["next"]).data["results"]] == [made[1], made[0]]


@pytest.mark.parametrize(
    ("query", "code", "sentence"),
    [
        ("limit=0", "invalid", "limit: "),
        ("limit=1001", "invalid", "limit: "),
        ("limit=x", "invalid", "limit: "),
        ("status=blocked", "invalid", "status: "),
        ("statuss=paused", "invalid", "Did you mean status?"),
        ("cursor=zzz", "cursor_invalid", "Cannot continue from this cursor"),
        ("cursor=WyJ4IiwieSJd", "cursor_invalid", "Cannot continue from this cursor"),
        ("cursor=W10", "cursor_invalid", "Cannot continue from this cursor"),
        ("site=%00", "invalid", "site: "),
    ],
)
def test_a_wrong_query_is_400(api, query, code, sentence):
    response = api.get(f"{RUNS}?{query}")

    assert response.status_code == 400
    assert response.data["code"] == code
    assert sentence in response.data["message"]


def test_filters_by_site_and_pipeline(api, operator, site, their_site):
    from automation.models import Membership
    from tests.support.factories import make_run

    Membership.objects.create(account=their_site.account, user=operator)
    ours, theirs = make_run(site=site, start=False), make_run("chain", site=their_site, start=False)

    assert [entry["id"] for entry in api.get(f"{RUNS}?site=ours").data["results"]] == [str(ours.pk)]
    assert [entry["id"] for entry in api.get(f"{RUNS}?site={their_site.pk}").data["results"]] == [str(theirs.pk)]
    assert [entry["id"] for entry in api.get(f"{RUNS}?pipeline=chain").data["results"]] == [str(theirs.pk)]
    assert api.get(f"{RUNS}?site=nowhere").status_code == 404


@pytest.mark.django_db(transaction=True)  # as in production: a request is no transaction, and has no savepoints
def test_a_list_takes_the_same_few_queries_for_one_run_as_for_many(operator, site, django_assert_max_num_queries):
    from django.contrib.auth.models import User

    from automation.runs import lifecycle
    from tests.support.factories import OPERATOR, make_run

    for start in (True, True, False):
        lifecycle.pause(make_run(site=site, start=start).pk, actor=OPERATOR)
        make_run(site=site, start=start)
    for limit in (2, 100):
        caller = client_of(User.objects.get(pk=operator.pk))
        # Two of permissions, one of accounts, the runs, their stages, the live nodes, where workers keep files,
        # the holds on what nobody works on, who is before it in its lane, what it depends on, which resources have no
        # place, what its delays and overrides say, for how long each has worked. What concerns none is not asked.
        with django_assert_max_num_queries(14):
            found = caller.get(f"{RUNS}?limit={limit}").data["results"]
        assert len(found) == min(limit, 6)
