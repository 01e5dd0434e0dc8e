"""The admin, through Django's own client: actions and what they tell, permissions, tenants, and the cost of lists."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from automation.models import AutomationRun, Lifecycle, Membership, Site
from automation.models.work import WorkItem
from automation.runs import creation
from pause_manager.admin.base import EXACT_UP_TO, MOST_PAGES, EstimatingPaginator
from pause_manager.models import ControlEvent, Hold
from tests.support.factories import OPERATOR, claim, make_run, make_site, settle

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = "admin:automation_automationrun_changelist"


def make_user(name: str, *permissions: str, site: Site | None = None, is_superuser: bool = False) -> Client:
    """The client of a signed-in member of staff with these permissions on everything of ``automation``."""
    user = User.objects.create_user(name, is_staff=True, is_superuser=is_superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    if site is not None:
        Membership.objects.create(account=site.account, user=user)
    client = Client()
    client.force_login(user)
    return client


def make_drill(items: int) -> AutomationRun:
    """A run whose every second item fails."""
    site = Site.objects.first() or make_site()
    params = {"items": items, "seconds": 0, "fail_every": 2}
    return creation.create("drill", site=site, actor=OPERATOR, params=params)


def operator(site: Site) -> Client:
    return make_user("olga", "view_automationrun", "operate_automationrun", site=site)


def act(client: Client, action: str, *runs: AutomationRun, **extra: str) -> list[str]:
    """Carry out an action on the list of runs; returns the messages that are shown."""
    answer = client.post(
        reverse(RUNS), {"action": action, "_selected_action": [str(run.pk) for run in runs], **extra}, follow=True
    )
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def test_pausing_holds_the_run_and_keeps_the_reason_and_the_door() -> None:
    run = make_run()

    told = act(operator(run.site), "pause_selected", run, reason="render farm needed")

    hold = Hold.objects.active().get(scope=run.scope)
    event = ControlEvent.objects.of_scope(run.scope).filter(action="hold_placed").get()
    assert told == ["Paused 1 run."]
    assert (hold.reason, hold.actor) == ("render farm needed", "user:olga")
    assert event.channel == "admin"
    run.refresh_from_db()
    assert run.paused_at is not None


def test_pausing_several_tells_what_was_done_and_each_refusal() -> None:
    ended, running = settle(make_run(items=2)), make_run()

    told = act(operator(running.site), "pause_selected", running, ended)

    assert told == ["Paused 1 run.", f"Cannot pause run {ended.pk}: it is completed."]


def test_resuming_releases_the_hold_and_refuses_what_has_none() -> None:
    paused, running = make_run(), make_run()
    client = operator(paused.site)
    act(client, "pause_selected", paused)

    told = act(client, "resume_selected", paused, running)

    assert told == ["Resumed 1 run.", f"Cannot resume run {running.pk}: it is running."]
    assert not Hold.objects.active().exists()


def test_cancelling_asks_first_and_then_ends_the_run() -> None:
    run = make_run()
    client = operator(run.site)

    asked = client.post(reverse(RUNS), {"action": "cancel_selected", "_selected_action": [str(run.pk)]})
    run.refresh_from_db()
    lifecycle_after_asking = run.lifecycle
    told = act(client, "cancel_selected", run, confirmed="yes", reason="wrong input")

    run.refresh_from_db()
    assert b"Cancel 1 run?" in asked.content
    assert str(run.pk).encode() in asked.content
    assert lifecycle_after_asking == Lifecycle.RUNNING
    assert told == ["Cancelled 1 run."]
    assert run.lifecycle == Lifecycle.CANCELLED
    assert ControlEvent.objects.filter(action="cancel_requested", reason="wrong input", channel="admin").exists()


def test_retrying_starts_a_new_run_over_what_failed_and_refuses_what_is_whole() -> None:
    failed = settle(make_drill(4))
    whole = settle(make_run(items=2))

    told = act(operator(failed.site), "retry_selected", failed, whole)

    new = AutomationRun.objects.get(retry_of=failed)
    assert new.total_items == 2
    assert told == ["Retried 1 run.", f"Cannot retry run {whole.pk}: it has no unfinished items."]


def test_a_viewer_sees_runs_but_no_actions() -> None:
    run = make_run()
    client = make_user("vera", "view_automationrun", site=run.site)

    page = client.get(reverse(RUNS))
    client.post(reverse(RUNS), {"action": "pause_selected", "_selected_action": [str(run.pk)]})

    assert str(run.pk).encode() in page.content
    assert b"pause_selected" not in page.content
    assert not Hold.objects.exists()


def test_another_accounts_runs_are_neither_shown_nor_touched() -> None:
    theirs = make_run(site=make_site("theirs"))
    client = operator(make_site("ours"))

    page = client.get(reverse(RUNS))
    act(client, "pause_selected", theirs)
    detail = client.get(reverse("admin:automation_automationrun_change", args=[theirs.pk]))

    assert str(theirs.pk).encode() not in page.content
    assert detail.status_code == 302  # Django's "does not exist" sends back to the index
    assert not Hold.objects.exists()


@pytest.mark.parametrize(
    "name", ["automationrun", "stagerun", "workitem", "workslice", "itemfailure", "ticket"], ids=str
)
def test_state_cannot_be_added_changed_or_deleted_even_by_a_superuser(name: str) -> None:
    run = make_drill(3)
    settle(run)
    client = make_user("root", is_superuser=True)

    listed = client.get(reverse(f"admin:automation_{name}_changelist"))
    added = client.post(reverse(f"admin:automation_{name}_add"), {})
    row: Any = listed.context["cl"].queryset.first()
    answers = [added.status_code]
    if row is not None:
        shown = client.get(reverse(f"admin:automation_{name}_change", args=[row.pk]))
        assert shown.status_code == 200
        answers.append(client.post(reverse(f"admin:automation_{name}_change", args=[row.pk]), {}).status_code)
        answers.append(client.post(reverse(f"admin:automation_{name}_delete", args=[row.pk]), {}).status_code)

    assert listed.status_code == 200
    assert set(answers) == {403}


@pytest.mark.parametrize("name", ["hold", "controlevent", "idempotencyrecord"])
def test_holds_and_events_are_read_by_superusers_only(name: str) -> None:
    run = make_run()
    act(operator(run.site), "pause_selected", run)
    url = reverse(f"admin:pause_manager_{name}_changelist")

    by_superuser = make_user("root", is_superuser=True).get(url)
    by_staff = make_user("stan", f"view_{name}", site=run.site).get(url)

    assert (by_superuser.status_code, by_staff.status_code) == (200, 403)


def test_a_member_cannot_make_a_site_for_another_account() -> None:
    ours, theirs = make_site("ours"), make_site("theirs")
    client = make_user("olga", "add_site", "view_site", "view_account", site=ours)
    url = reverse("admin:automation_site_add")

    refused = client.post(url, {"name": "New", "slug": "new-theirs", "account": theirs.account_id})
    made = client.post(url, {"name": "New", "slug": "new-ours", "account": ours.account_id})

    assert refused.status_code == 200
    assert made.status_code == 302
    assert list(Site.objects.filter(name="New").values_list("slug", flat=True)) == ["new-ours"]


@pytest.mark.parametrize(
    "name",
    [
        "automationrun",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("stagerun", "workitem", "workslice", "itemfailure")),
    ],
)
def test_a_list_costs_the_same_number_of_queries_however_long(name: str) -> None:
    client = make_user("root", is_superuser=True)
    url = reverse(f"admin:automation_{name}_changelist")

    def queries() -> list[str]:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert client.get(url).status_code == 200
        return [query["sql"] for query in captured]

    settle(make_drill(4))
    few = queries()
    for _ in range(3):
        settle(make_drill(20))
    many = queries()

    assert len(many) == len(few) <= 7
    counts = [sql for sql in many if "COUNT(*)" in sql]
    assert all(f"LIMIT {EXACT_UP_TO + 1}" in sql for sql in counts)


def test_lists_filter_by_lifecycle_and_find_a_run_by_id() -> None:
    ended, running = settle(make_run(items=2)), make_run()
    client = operator(running.site)

    unfinished = client.get(reverse(RUNS), {"lifecycle": "unfinished"}).content.decode()
    found = client.get(reverse(RUNS), {"q": str(ended.pk)}).content.decode()
    nonsense = client.get(reverse(RUNS), {"q": "no-such-thing"})

    assert str(running.pk) in unfinished
    assert str(ended.pk) not in unfinished
    assert str(ended.pk) in found
    assert str(running.pk) not in found
    assert client.get(reverse(RUNS), {"q": str(ended.pk)[:8]}).content.decode().count(str(ended.pk)[:8]) > 1
    assert str(running.pk) not in client.get(reverse(RUNS), {"q": str(ended.pk)[:8]}).content.decode()
    assert nonsense.status_code == 200


def test_the_paginator_counts_small_tables_and_estimates_large_ones() -> None:
    run = make_run(items=EXACT_UP_TO * 6)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {WorkItem._meta.db_table}")
    few, many = WorkItem.objects.order_by("id")[:7], WorkItem.objects.order_by("id")

    exact = EstimatingPaginator(WorkItem.objects.filter(pk__in=few.values("pk")), 50)
    estimated = EstimatingPaginator(many, 50)
    with CaptureQueriesContext(connection) as captured:
        count = estimated.count

    assert exact.count == 7
    assert count == pytest.approx(run.total_items, rel=0.2)
    assert estimated.num_pages == MOST_PAGES
    assert len(captured) == 2


def test_a_paused_runs_page_says_why_it_waits() -> None:
    run = make_run()
    claim(run)
    client = operator(run.site)
    act(client, "pause_selected", run, reason="lunch")

    page = client.get(reverse("admin:automation_automationrun_change", args=[run.pk])).content.decode()

    assert "pausing" in page
    assert "This run was paused by olga: lunch." in page


def root() -> Client:
    return make_user("root", is_superuser=True)


def test_pausing_what_is_paused_says_so() -> None:
    paused, running = make_run(), make_run()
    client = operator(paused.site)
    act(client, "pause_selected", paused)

    told = act(client, "pause_selected", paused, running)

    assert told == ["Paused 1 run.", "1 was paused already."]


def test_the_list_says_how_far_a_run_is_and_who_paused_it() -> None:
    failed, paused = settle(make_drill(4)), make_run()
    client = operator(paused.site)
    Membership.objects.get_or_create(account=failed.site.account, user=User.objects.get(username="olga"))
    act(client, "pause_selected", paused, reason="render farm needed")

    page = client.get(reverse(RUNS)).content.decode()

    assert "held by olga: render farm needed" in page
    assert '100 %<span class="second">2 failed</span>' in page
    assert '0 %<span class="second">of 10 items</span>' in page


def test_any_scope_is_held_from_the_list_of_holds_and_a_wrong_one_is_refused() -> None:
    client, url = root(), reverse("admin:pause_manager_hold_add")

    for scope in ("queue:stages", "fleet"):
        made = client.post(url, {"scope": scope, "mode": "drain", "reason": "an upgrade", "hours": "2"})
        assert made.status_code == 302
    wrong = client.post(url, {"scope": "nothing", "mode": "drain", "reason": "an upgrade"})

    held = Hold.objects.active().order_by("scope")
    assert [(one.scope, one.actor, one.expires_at is not None) for one in held] == [
        ("fleet", "user:root", True),
        ("queue:stages", "user:root", True),
    ]
    assert wrong.status_code == 200
    assert "errorlist" in wrong.content.decode()
    assert operator(make_site()).get(url).status_code == 403


def test_the_audit_trail_links_runs_and_says_why_in_the_same_row() -> None:
    run = make_run()
    act(operator(run.site), "pause_selected", run, reason="a <i>new</i> kernel")

    page = root().get(reverse("admin:pause_manager_controlevent_changelist")).content.decode()

    assert f'<a href="/runs/{run.pk}/">run {str(run.pk)[:8]}</a>' in page
    assert 'hold placed<span class="second">a &lt;i&gt;new&lt;/i&gt; kernel</span>' in page


def test_internals_come_last_and_the_console_is_one_link_away() -> None:
    page = root().get(reverse("admin:index")).content.decode()

    assert page.index("Automation runs") < page.index("Internals") < page.index("Work slices")
    assert page.count("Work slices") == 1
    assert 'href="/" title="Back to the console"' in page
    assert "nav-sidebar" not in page
