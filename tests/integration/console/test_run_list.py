"""The list of runs: why each waits, what filters find, and verbs over many that say what was refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from automation.models import AutomationRun, Lifecycle, Membership
from automation.runs import lifecycle
from backend.console.runs import counts
from backend.console.runs.audience import Audience
from pause_manager import holds
from pause_manager.console.live import topics
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR, make_run, make_site, settle

pytestmark = pytest.mark.django_db(transaction=True)


def signed_in(*permissions: str, name: str = "olga", site: Any = None) -> Client:
    client = Client()
    client.force_login(make_user(name, site or make_site(), *permissions))
    return client


def row_of(html: str, run: AutomationRun) -> str:
    found = re.search(rf'<li class="run-row[^>]*id="run-{run.pk}".*?</li>', html, re.DOTALL)
    return found[0] if found else ""


def listed(client: Client, query: str = "") -> set[str]:
    html = client.get(f"/runs/{query}").content.decode()
    return set(re.findall(r'id="run-([0-9a-f-]{36})"', html))


def test_a_row_says_who_paused_it_and_why_and_tells_that_from_waiting_for_room() -> None:
    site = make_site()
    paused, parked = make_run(site=site), make_run(site=site)
    lifecycle.pause(paused.pk, actor=OPERATOR, reason="the box is being moved")
    holds.place([parked.scope], kind="capacity", actor=OPERATOR, reason="no node has room")
    client = signed_in(VIEW, OPERATE, site=site)

    html = client.get("/runs/").content.decode()

    assert "This run was paused by olga: the box is being moved." in row_of(html, paused)
    assert "chip-on_hold" in row_of(html, paused)
    assert "no node has room" in row_of(html, parked)
    assert "chip-waiting" in row_of(html, parked)
    assert listed(client, "?status=held") == {str(paused.pk)}
    assert listed(client, "?status=waiting") == {str(parked.pk)}
    assert listed(client, "?cause=capacity") == {str(parked.pk)}


def test_a_hold_on_the_fleet_is_told_in_every_unfinished_row() -> None:
    site = make_site()
    ended, running = settle(make_run(items=1, site=site)), make_run(site=site)
    holds.place(["fleet"], kind="operator", actor=OPERATOR, reason="upgrade")

    html = signed_in(VIEW, site=site).get("/runs/").content.decode()

    assert "The fleet was paused by olga: upgrade." in row_of(html, running)
    assert "upgrade" not in row_of(html, ended)


def test_the_failed_share_of_a_completed_run_is_shown_as_failed() -> None:
    site = make_site()
    run = settle(make_run("failing", items=10, site=site))

    html = row_of(signed_in(VIEW, site=site).get("/runs/").content.decode(), run)

    width = re.search(r'<rect class="failed" x="([\d.]+)" width="([\d.]+)"', html)
    assert width is not None
    assert float(width[2]) > 0
    assert float(width[1]) + float(width[2]) == pytest.approx(100, abs=0.05)
    assert f"{run.failed_items} failed" in html


def test_counts_stand_at_the_filters_and_are_marked_where_they_are_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    for _ in range(4):
        make_run(site=site)
    client = signed_in(VIEW, site=site)

    exact = client.get("/runs/").content.decode()
    monkeypatch.setattr(counts, "COUNTED", 3)
    estimated = client.get("/runs/").content.decode()

    assert re.search(r'All <span class="filter-count">4<', exact)
    assert re.search(r'Completed <span class="filter-count">0<', exact)
    assert re.search(r'All <span class="filter-count">about \d', estimated)


def test_search_finds_by_id_pipeline_and_site_and_nothing_of_other_accounts() -> None:
    mine, theirs = make_site("harbour"), make_site("elsewhere")
    run, other = make_run(site=mine), make_run("diamond", site=mine)
    foreign = make_run(site=theirs)
    client = signed_in(VIEW, site=mine)

    assert listed(client, f"?q={str(run.pk)[:8]}") == {str(run.pk)}
    assert listed(client, "?q=harbour") == {str(run.pk), str(other.pk)}
    assert listed(client, "?q=diamond") == {str(other.pk)}
    assert listed(client, "?q=elsewhere") == set()
    assert listed(client, f"?q={str(foreign.pk)[:8]}") == set()
    assert listed(client, "?site=elsewhere") == set()


def test_a_column_of_the_chart_lists_the_runs_of_its_hour() -> None:
    site = make_site()
    recent, old = make_run(site=site), make_run(site=site)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_automationrun SET created_at = created_at - interval '5 hours' WHERE id = %s", [old.pk]
        )
    client = signed_in(VIEW, site=site)

    html = client.get("/runs/").content.decode()
    columns = re.findall(r'<a href="(\?[^"]*)" class="column"[^>]*aria-label="[^"]* UTC: 1 run,', html)

    assert [listed(client, url.replace("&amp;", "&")) for url in columns] == [{str(old.pk)}, {str(recent.pk)}]


def test_many_runs_are_paused_at_once_and_each_refusal_is_named() -> None:
    site, elsewhere = make_site("ours"), make_site("theirs")
    ended, run, foreign = settle(make_run(items=1, site=site)), make_run(site=site), make_run(site=elsewhere)
    client = signed_in(VIEW, OPERATE, site=site)

    asked = {"do": "pause", "reason": "the box", "run": [str(one.pk) for one in (run, ended, foreign)]}
    answer = client.post("/runs/", asked)

    told = answer.json()
    assert told["done"] == "Paused 1 of 3 runs."
    assert told["problems"] == [
        f"Cannot pause run {ended.pk}: it is completed.",
        f"Cannot change run {foreign.pk}: there is no such run.",
    ]
    run.refresh_from_db()
    foreign.refresh_from_db()
    assert run.paused_at is not None
    assert foreign.paused_at is None


def test_a_retry_from_the_list_leads_to_the_new_run() -> None:
    site = make_site()
    run = settle(make_run("failing", items=10, site=site))
    client = signed_in(VIEW, OPERATE, site=site)

    told = client.post("/runs/", {"do": "retry", "run": str(run.pk)}).json()

    assert told["location"] == f"/runs/{AutomationRun.objects.get(retry_of=run).pk}/"
    again = client.post("/runs/", {"do": "retry", "run": str(run.pk)})
    assert again.status_code == 409
    assert "was retried before" in again.json()["refused"]


@pytest.mark.parametrize(
    ("posted", "sentence"),
    [
        ({"do": "pause"}, "Cannot do that: no run is selected."),
        ({"do": "pause", "run": "nope"}, "Cannot do that: expected ids of runs."),
        ({"do": "pause", "run": ["x"] * 2 + [str(n) for n in range(200)]}, "Cannot do that: expected at most 200 runs"),
    ],
)
def test_a_wrong_selection_is_refused_with_a_sentence(posted: dict[str, Any], sentence: str) -> None:
    answer = signed_in(VIEW, OPERATE).post("/runs/", posted)

    assert answer.status_code == 409
    assert answer.json()["refused"].startswith(sentence)


def test_a_viewer_sees_no_verbs_and_may_not_use_them() -> None:
    site = make_site()
    run = make_run(site=site)
    client = signed_in(VIEW, site=site)

    html = client.get("/runs/").content.decode()

    assert 'data-ask="/runs/"' not in html
    assert "data-select" not in html
    assert client.post("/runs/", {"do": "cancel", "run": str(run.pk)}).status_code == 403
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.RUNNING


def test_people_who_see_the_same_share_each_render_and_others_do_not() -> None:
    site = make_site("ours")
    users = [make_user(name, site, VIEW) for name in ("vera", "viktor")]
    operator, stranger = make_user("olga", site, VIEW, OPERATE), make_user("sten", make_site("theirs"), VIEW)

    keys = [topics.resolve("runs", user).key for user in (*users, operator, stranger)]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    Membership.objects.filter(user=users[0]).delete()
    assert topics.resolve("runs", users[0]).key != keys[1]


def test_the_statements_do_not_grow_with_the_running_and_paused_runs_of_a_page() -> None:
    site = make_site()
    client = signed_in(VIEW, OPERATE, site=site)

    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert client.get("/runs/").status_code == 200
        return len(found)

    for _ in range(2):
        lifecycle.pause(make_run(site=site).pk, actor=OPERATOR)
    statements()  # some facts are read once per process
    few = statements()
    for _ in range(6):
        lifecycle.pause(make_run(site=site).pk, actor=OPERATOR)

    assert statements() == few


def test_an_audience_of_no_account_sees_nothing() -> None:
    make_run()
    lonely = make_user("nina", None, VIEW)

    assert list(Audience.of(lonely).runs()) == []


def test_the_holds_of_a_cause_are_read_once_for_the_list_and_all_counts() -> None:
    site = make_site()
    paused, other = make_run(site=site), make_run(site=site)
    lifecycle.pause(paused.pk, actor=OPERATOR, reason="")
    holds.place(["run:no-id-of-a-run", f"run:{other.pk}-2"], kind="operator", actor=OPERATOR, reason="")
    client = signed_in(VIEW, site=site)

    with CaptureQueriesContext(connection) as captured:
        found = listed(client, "?cause=operator&status=held")

    reads = [one["sql"] for one in captured if one["sql"].startswith('SELECT "pause_manager_hold"."scope" AS')]
    assert found == {str(paused.pk)}
    assert len(reads) == 2  # of the cause, and of what people end
