"""Pause, resume and cancel over HTTP."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api_users import RUNS

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(site):
    from tests.support.factories import make_run

    return make_run("scripted", site=site, items=20)


def url_of(run, verb=""):
    return f"{RUNS}{run.pk}/{verb}"


@pytest.mark.req("A-01")
def test_a_pause_is_pausing_while_a_worker_holds_a_slice_and_paused_after(api, run):
    from automation import leases
    from tests.support.factories import claim

    work = claim(run)
    assert work is not None
    asked = api.post(url_of(run, "pause/"), {"reason": "lunch"})
    leases.release(work)

    assert (asked.status_code, asked.data["status"], asked.data["lifecycle"]) == (200, "pausing", "running")
    assert asked.data["paused_at"]
    assert api.get(url_of(run)).data["status"] == "paused"


def test_the_event_of_a_pause_says_who_why_and_who_was_on_what(api, run):
    from tests.support.factories import claim

    claim(run, "a")
    api.post(url_of(run, "pause/"), {"reason": "lunch"}, headers={"X-Request-ID": "req-7"})

    event = api.get(url_of(run, "events/?action=hold_placed")).data["results"][0]
    assert (event["actor"], event["channel"], event["reason"]) == ("user:alice", "api", "lunch")
    assert event["request_id"] == "req-7"
    at_work = event["details"]["in_flight"]
    assert [(entry["worker"], entry["stage"], entry["item"]) for entry in at_work] == [("test/a", "scripted", "000")]


@pytest.mark.req("M-20")
def test_a_second_pause_keeps_the_first_ones_time(api, run):
    first = api.post(url_of(run, "pause/"), {"reason": "lunch"})
    second = api.post(url_of(run, "pause/"), {"reason": "tea"})

    assert (second.status_code, second.data["paused_at"]) == (200, first.data["paused_at"])
    assert len(api.get(url_of(run, "events/?action=hold_placed")).data["results"]) == 1


@pytest.mark.req("A-03")
def test_a_resume_goes_on_and_sends_work_once(api, run):
    from tests.support.factories import drain, tickets

    api.post(url_of(run, "pause/"))
    drain(run)
    assert tickets(run) == 0

    first = api.post(url_of(run, "resume/"), {"reason": "back"})
    sent = tickets(run)
    second = api.post(url_of(run, "resume/"))

    assert (first.status_code, first.data["status"], first.data["paused_at"]) == (200, "running", None)
    assert first.data["resumed_at"]
    assert first.data["paused_seconds"] > 0
    assert sent > 0
    assert (second.status_code, second.data["code"], second.data["status"]) == (409, "transition_refused", "running")
    assert second.data["message"] == f"Cannot resume run {run.pk}: it is running."
    assert tickets(run) == sent


@pytest.mark.req("A-42")
def test_resumes_at_the_same_time_send_work_once(operator, run):
    from django.db import connection

    from automation.runs import lifecycle
    from tests.support.api_users import client_of
    from tests.support.factories import OPERATOR, events, tickets

    wanted = tickets(run)
    barrier = threading.Barrier(6)

    def resume(_):
        try:
            barrier.wait(10)
            return client_of(operator).post(url_of(run, "resume/")).status_code
        finally:
            connection.close()

    lifecycle.pause(run.pk, actor=OPERATOR)
    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(resume, range(6)))

    assert answers == [200, 409, 409, 409, 409, 409]
    assert len(events(run, "hold_released")) == 1
    assert tickets(run) == wanted


def test_a_pending_run_is_started_or_waits_for_the_gate(api, site):
    from pause_manager import holds
    from tests.support.factories import OPERATOR, make_run

    pending, waiting = make_run(site=site, start=False), make_run(site=site, start=False)

    started = api.post(url_of(pending, "start/"), {"reason": "go"})
    again = api.post(url_of(pending, "start/"))
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")
    kept = api.post(url_of(waiting, "start/"))
    holds.release(["fleet"], actor=OPERATOR)

    assert (started.data["status"], again.status_code, again.data["status"]) == ("running", 409, "running")
    assert (kept.status_code, kept.data["status"]) == (200, "waiting")
    assert api.get(url_of(waiting)).data["status"] == "running"


@pytest.mark.req("A-04")
def test_a_run_paused_at_an_item_goes_on_with_the_next(api, run):
    from tests.support.factories import drain, everybody_has_heard, outputs
    from tests.support.pipelines import scripted

    def pause_at_seven(item, ctx):
        if item["n"] == 7:
            api.post(url_of(run, "pause/"))
            everybody_has_heard()

    with scripted(pause_at_seven):
        drain(run)
    paused = api.get(url_of(run, "progress/")).data
    done = [entry["payload"]["n"] for entry in api.get(url_of(run, "items/?stage=scripted")).data["results"]]
    api.post(url_of(run, "resume/"))
    drain(run)

    assert paused["status"] == "paused"
    assert paused["overall"]["processed_items"] == len(done) == 7
    assert [payload["n"] for payload in outputs(run)] == list(range(1, 21))
    assert api.get(url_of(run)).data["status"] == "completed"


@pytest.mark.req("A-05")
def test_a_cancel_waits_for_the_item_and_is_final(api, run):
    from automation import leases
    from automation.runs import lifecycle
    from tests.support.factories import claim

    work = claim(run)
    assert work is not None
    asked = api.post(url_of(run, "cancel/"), {"reason": "wrong input"})
    leases.release(work)
    lifecycle.finish_cancels()
    ended = api.get(url_of(run)).data
    again = api.post(url_of(run, "cancel/"))

    assert asked.data["status"] == "cancelling"
    assert ended["status"] == ended["lifecycle"] == "cancelled"
    assert ended["cancelled_at"]
    assert ended["completed_at"] == ended["finished_at"] is not None
    assert (again.status_code, again.data["cancelled_at"]) == (200, ended["cancelled_at"])


@pytest.mark.req("A-41")
@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("completed", "pause"),
        ("completed", "resume"),
        ("completed", "cancel"),
        ("cancelled", "pause"),
        ("cancelled", "resume"),
        ("failed", "pause"),
        ("failed", "cancel"),
        ("running", "resume"),
        ("running", "retry-failed"),
        ("cancelled", "retry-failed"),
    ],
)
def test_an_illegal_verb_is_409_with_the_status_and_changes_nothing(api, run, state, verb):
    from automation.runs import failing, lifecycle
    from tests.support.factories import OPERATOR, drain, rows

    if state == "completed":
        drain(run)
    elif state == "cancelled":
        lifecycle.cancel(run.pk, actor=OPERATOR)
    elif state == "failed":
        failing.fail(run.pk, reason="for the test")
    before = rows(run)

    response = api.post(url_of(run, f"{verb}/"))

    assert response.status_code == 409
    assert set(response.data) == {"code", "message", "status"}
    assert response.data["status"] == state
    assert response.data["message"].startswith(f"Cannot {verb.partition('-')[0]} run {run.pk}: it is {state}")
    assert rows(run) == before


@pytest.mark.parametrize(
    ("body", "sentence"),
    [({"reson": "x"}, "Did you mean reason?"), ({"reason": "x" * 501}, "500"), (["x"], "Expected a dictionary")],
)
def test_a_wrong_body_is_400_and_pauses_nothing(api, run, body, sentence):
    response = api.post(url_of(run, "pause/"), body)

    assert response.status_code == 400
    assert sentence in response.data["message"]
    assert api.get(url_of(run)).data["paused_at"] is None


@pytest.mark.req("M-08")
@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_a_verb_is_a_bounded_number_of_queries_however_large_the_run(operator, site, verb):
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from automation.runs import lifecycle
    from tests.support.api_users import client_of
    from tests.support.factories import OPERATOR, claim, make_run

    counts = set()
    for items in (5, 2_000):
        run = make_run("scripted", site=site, items=items)
        claim(run)
        if verb == "resume":
            lifecycle.pause(run.pk, actor=OPERATOR)
        api = client_of(User.objects.get(pk=operator.pk))
        with CaptureQueriesContext(connection) as queries:
            assert api.post(url_of(run, f"{verb}/")).status_code == 200
        counts.add(len(queries))

    assert len(counts) == 1


@pytest.mark.req("A-23")
def test_active_seconds_leave_the_pause_out(api, run):
    from django.db import connection

    api.post(url_of(run, "pause/"))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_automationrun SET started_at = started_at - interval '1 hour', "
            "paused_at = paused_at - interval '50 minutes'"
        )
        cursor.execute("UPDATE pause_manager_hold SET created_at = created_at - interval '50 minutes'")

    shown = api.get(url_of(run)).data

    assert shown["total_seconds"] == pytest.approx(3_600, abs=10)
    assert shown["paused_seconds"] == pytest.approx(3_000, abs=10)
    assert shown["active_seconds"] == pytest.approx(600, abs=10)
