"""A run's page: the banner of the holds in force, only what can be done, failures by signature and their retry."""

from __future__ import annotations

import html as html_text
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from automation.errors import TransitionRefused
from automation.models import AutomationRun, Lifecycle
from automation.runs import chosen_retries, lifecycle
from backend.console.failures.signatures import signature_of
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.api_users import OPERATE, PAYLOADS, VIEW, make_user
from tests.support.factories import OPERATOR, make_run, make_site, outputs, settle

pytestmark = pytest.mark.django_db(transaction=True)


def signed_in(*permissions: str, name: str = "olga", site: Any = None) -> Client:
    client = Client()
    client.force_login(make_user(name, site or make_site(), *permissions))
    return client


def page_of(client: Client, run: AutomationRun) -> str:
    return client.get(f"/runs/{run.pk}/").content.decode()


def banner_of(html: str) -> str:
    found = re.search(r'<div class="banner[ "].*?<div class="card-head">', html, re.DOTALL)
    return html_text.unescape(found[0]) if found else ""


def test_the_banner_tells_the_hold_in_force_and_not_the_one_that_was_released() -> None:
    run = make_run()
    holds.place([run.scope], kind="capacity", actor=OPERATOR, reason="no node has room")
    lifecycle.pause(run.pk, actor=OPERATOR, reason="GPU night shift")
    client = signed_in(VIEW, OPERATE, site=run.site)

    both = banner_of(page_of(client, run))
    lifecycle.resume(run.pk, actor=OPERATOR)
    left = banner_of(page_of(client, run))

    assert "GPU night shift" in both
    assert "no node has room" in both
    assert 'value="resume"' in both
    assert 'value="force"' in both
    assert "GPU night shift" not in left
    assert "no node has room" in left
    assert "is-waiting" in left


def test_a_run_that_waits_for_room_can_be_held_too() -> None:
    run = make_run()
    holds.place([run.scope], kind="capacity", actor=OPERATOR, reason="no node has room")
    client = signed_in(VIEW, OPERATE, site=run.site)

    assert 'id="pause-control"' in page_of(client, run)
    client.post(f"/runs/{run.pk}/control/", {"verb": "pause", "reason": "not tonight"})

    assert sorted(holds_kinds(run)) == ["capacity", "operator"]


def holds_kinds(run: AutomationRun) -> list[str]:
    return list(Hold.objects.covering([run.scope]).values_list("kind", flat=True))


def test_a_hold_on_the_fleet_leads_to_the_fleet() -> None:
    run = make_run()
    holds.place(["fleet"], kind="operator", actor=OPERATOR, reason="upgrade")

    banner = banner_of(page_of(signed_in(VIEW, OPERATE, site=run.site), run))

    assert "The fleet was paused by olga: upgrade." in banner
    assert 'href="/fleet/"' in banner
    assert 'value="resume"' not in banner


def test_an_ended_run_shows_only_what_can_be_done_and_its_true_failures() -> None:
    run = settle(make_run("failing", items=9))

    html = page_of(signed_in(VIEW, OPERATE, site=run.site), run)

    assert 'id="hold-control"' not in html
    assert 'id="cancel-control"' not in html
    assert "failed (3)" in html
    assert "3 items failed" in html
    assert f'href="/runs/new/?again={run.pk}"' in html


def test_a_viewer_sees_no_buttons() -> None:
    run = make_run()

    html = page_of(signed_in(VIEW, site=run.site), run)

    assert 'name="verb"' not in html
    assert "cancel-dialog" not in html


def test_the_cancel_dialog_says_what_will_not_run() -> None:
    run = make_run("ladder", items=10)

    html = page_of(signed_in(VIEW, OPERATE, site=run.site), run)

    assert re.search(r"10 of 10 items will not run; .+ will not start", html)


def test_failures_are_grouped_by_what_was_said_whatever_the_numbers() -> None:
    run = settle(make_run("failing", items=9))

    html = page_of(signed_in(VIEW, OPERATE, site=run.site), run)

    assert re.search(r"<b>3 ×</b> <span class=\"error-text\">ValueError: cannot digest #<", html)
    assert "&quot;n&quot;: 3" in html


def test_who_may_not_see_payloads_sees_the_class_of_the_error_alone() -> None:
    run = settle(make_run("failing", items=9))
    client = signed_in(VIEW, OPERATE, site=run.site)
    user = client.session["_auth_user_id"]
    User.objects.get(pk=user).user_permissions.remove(
        *User.objects.get(pk=user).user_permissions.filter(codename=PAYLOADS)
    )

    html = page_of(client, run)

    assert "ValueError" in html
    assert "cannot digest" not in html
    asked = {"do": "retry_items", "run": str(run.pk), "stage": "failing", "key": "002", "payload": '{"n": 4}'}
    assert client.post("/runs/", asked).status_code == 409
    assert AutomationRun.objects.count() == 1


def test_one_item_is_changed_and_retried_in_a_run_of_its_own() -> None:
    run = settle(make_run("failing", items=9))
    client = signed_in(VIEW, OPERATE, site=run.site)
    key = run.stages.get(slug="failing").failures.order_by("key")[0].key

    told = client.post(
        "/runs/", {"do": "retry_items", "run": str(run.pk), "stage": "failing", "key": key, "payload": '{"n": 400}'}
    ).json()

    new = AutomationRun.objects.exclude(pk=run.pk).get()
    assert told["location"] == f"/runs/{new.pk}/"
    assert settle(new).lifecycle == Lifecycle.COMPLETED
    assert (new.total_items, new.failed_items, outputs(new)) == (1, 0, [{"n": 400}])
    event = ControlEvent.objects.of_scope(run.scope).filter(action="retry").get()
    assert event.details == {"retried_by": str(new.pk), "stage": "failing", "items": 1, "is_edited": True}


def test_a_group_is_retried_and_the_whole_run_can_be_later() -> None:
    run = settle(make_run("failing", items=9))
    client = signed_in(VIEW, OPERATE, site=run.site)
    values = html_text.unescape(
        re.findall(r'data-values="([^"]*retry_items[^"]*signature[^"]*)"', page_of(client, run))[0]
    )

    client.post("/runs/", json.loads(values))

    new = AutomationRun.objects.exclude(pk=run.pk).get()
    assert (new.total_items, new.retry_of) == (3, None)
    assert settle(new).failed_items == 3
    assert client.post("/runs/", {"do": "retry", "run": str(run.pk)}).json()["done"] == "Retried 1 run."


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"key": "nothing"}, "has no such failed items in stage failing"),
        ({"stage": "nowhere"}, "has no such failed items in stage nowhere"),
        ({"payload": "{"}, "it is not JSON"),
        ({"payload": "[1]"}, "expected a JSON object"),
        ({"run": "00000000-0000-0000-0000-000000000000"}, "there is no such run"),
    ],
)
def test_a_retry_of_what_is_not_there_is_refused_and_changes_nothing(changed: dict[str, str], sentence: str) -> None:
    run = settle(make_run("failing", items=3))
    key = run.stages.get(slug="failing").failures.get().key
    asked = {"do": "retry_items", "run": str(run.pk), "stage": "failing", "key": key} | changed

    answer = signed_in(VIEW, OPERATE, site=run.site).post("/runs/", asked)

    assert answer.status_code == 409
    assert sentence in answer.json()["refused"]
    assert AutomationRun.objects.count() == 1


def test_items_of_a_run_in_progress_are_not_retried() -> None:
    run = make_run("failing", items=3)

    with pytest.raises(TransitionRefused):
        chosen_retries.retry_items(run.pk, "failing", ["003"], actor=OPERATOR)

    assert AutomationRun.objects.count() == 1


def test_a_pause_is_a_band_of_the_timeline_and_one_line_of_the_log() -> None:
    run = make_run()
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    lifecycle.resume(run.pk, actor=OPERATOR)
    run = settle(run)

    html = page_of(signed_in(VIEW, site=run.site), run)

    band = re.search(r'<rect class="band is-of-people"[^>]*><title>([^<]*)</title>', html)
    assert band is not None
    assert band[1] == "This run was paused by olga: lunch."
    assert re.search(r'<b class="event-action">Paused</b> by olga: “lunch”', html)


def test_the_graph_has_a_line_for_each_branch_and_join() -> None:
    run = make_run("diamond", items=2)

    html = page_of(signed_in(VIEW, site=run.site), run)

    graph = re.search(r'<svg class="stage-graph".*?</section>', html, re.DOTALL)
    assert graph is not None
    assert graph[0].count("<line ") == 2


def test_failures_of_all_visible_runs_stand_on_one_page_and_a_group_is_retried_there() -> None:
    site = make_site("ours")
    mine = [settle(make_run("failing", items=6, site=site)) for _ in range(2)]
    foreign = settle(make_run("failing", items=3, site=make_site("theirs")))
    client = signed_in(VIEW, OPERATE, site=site)

    html = client.get("/failures/").content.decode()
    values = html_text.unescape(re.findall(r'data-values="([^"]*signature[^"]*)"', html)[0])
    told = client.post("/failures/", json.loads(values)).json()

    assert re.search(r'data-label="Items">4<', html)
    assert str(foreign.pk)[:8] not in html
    assert told == {"done": "Started 2 runs over the failed items.", "location": "", "problems": []}
    assert AutomationRun.objects.exclude(pk__in=[run.pk for run in (*mine, foreign)]).count() == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("Traceback (most recent call last):\n  File \"x\"\nKeyError: 'sku'", "KeyError: 'sku'"),
        ("ValueError: row 12 of 300\nmore", "ValueError: row # of #"),
        ("", "no text"),
    ],
)
def test_the_signature_is_what_was_raised_without_its_numbers(error: str, line: str) -> None:
    assert signature_of(error) == line
