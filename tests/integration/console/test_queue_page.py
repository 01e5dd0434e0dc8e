"""The page of the pause queue through Django's client: order, reasons, verbs, and whose entries they are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from automation.models import Membership, Site
from pause_manager import fleet, holds, pause_queue
from pause_manager.capacity.needs import Needs
from pause_manager.console.queue import rows
from pause_manager.models import ControlEvent, Hold, PauseQueueEntry, PollState
from pause_manager.models.clock import database_now
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support import parked_rows
from tests.support.factories import OPERATOR, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "/pause-queue/"


def user_of(*permissions: str, site: Site | None = None) -> Client:
    user = User.objects.create_user(f"quentin-{User.objects.count()}")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    if site is not None:
        Membership.objects.create(account=site.account, user=user)
    client = Client()
    client.force_login(user)
    return client


def operator() -> Client:
    return user_of("view_pausequeueentry", "change_pausequeueentry")


def page(client: Client, query: str = "") -> str:
    answer = client.get(QUEUE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def shown(html: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'<tr id="entry-(\d+)"', html)]


def words_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def act(client: Client, do: str, entries: list[int], **fields: str) -> tuple[int, dict[str, Any]]:
    answer = client.post(QUEUE, {"do": do, "entry": entries, **fields})
    return answer.status_code, json.loads(answer.content) if answer.status_code in (200, 409) else {}


def park(site: Site, **values: Any) -> PauseQueueEntry:
    run = make_run(site=site)
    item = WithheldDispatch(ref=run.scope, task_name="drill", queue="stages", needs=Needs(cpu=1), **values)
    pause_queue.park([item], reason="No machine has room for 1 core.", details={})
    return PauseQueueEntry.objects.get(ref=run.scope)


def test_what_waits_is_listed_in_the_order_in_which_it_continues_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_SIZE", 3)
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    last = parked_rows.keep(2, priority=5)
    first = parked_rows.keep(4, priority=1)
    client = operator()

    one = page(client)
    following = re.search(r'href="/pause-queue/\?(after=[^"]+)">Next page', one)
    assert following is not None
    two = page(client, f"?{following[1]}")

    assert shown(one) + shown(two) == [entry.pk for entry in (*first, *last)]
    assert re.findall(r'data-label="Place">(\d+)', one + two) == ["1", "2", "3", "4", "5", "6"]
    assert "Next page" not in two
    assert "The fleet was paused by olga: upgrade." in words_of(one)


def test_why_something_waits_is_told_as_of_the_last_poll() -> None:
    entry = park(make_site())
    told = {"queue": entry.work_queue, "pipeline": entry.pipeline, "needs": entry.needs, "code": "no_room"}
    sentence = "vm has 0.2 of 2 cores free, 1 core is needed."
    PollState.objects.update_or_create(
        pk=1, defaults={"polled_at": database_now(), "told": [told | {"sentence": sentence}]}
    )

    words = words_of(page(operator()))

    assert "vm has 0.2 of 2 cores free, 1 core is needed. Next look in" in words
    assert "1 core" in words


def test_messages_are_started_rerouted_renamed_and_dropped_with_a_reason() -> None:
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    moved, renamed, dropped, also = parked_rows.keep(4)
    client = operator()

    assert act(client, "reroute", [moved.pk], queue="payments", reason="moved")[0] == 200
    assert act(client, "rename", [renamed.pk], task="shop.charge", reason="renamed")[0] == 200
    assert act(client, "drop", [dropped.pk, also.pk], reason="obsolete")[1]["done"] == "Dropped: 2."

    for entry in (moved, renamed, dropped, also):
        entry.refresh_from_db()
    assert (moved.queue, renamed.task_name) == ("payments", "shop.charge")
    assert (dropped.outcome, also.outcome) == ("dropped", "dropped")
    event = ControlEvent.objects.filter(action="dropped").first()
    assert event is not None
    assert (event.actor.startswith("user:quentin"), event.channel, event.reason) == (True, "console", "obsolete")
    assert sorted(shown(page(client, "?show=dropped"))) == [dropped.pk, also.pk]
    assert shown(page(client)) == [moved.pk, renamed.pk]


def test_a_run_is_started_anyway_or_held_and_is_never_dropped() -> None:
    forced, held = park(make_site("one")), park(make_site("two"))
    client = operator()

    status, told = act(client, "drop", [held.pk], reason="obsolete")
    assert (status, "pause or cancel the run" in told["refused"]) == (409, True)
    assert act(client, "hold", [held.pk], reason="not tonight")[0] == 200
    assert act(client, "force", [forced.pk], reason="urgent")[1]["done"] == "Started anyway: 1."

    forced.refresh_from_db()
    assert forced.outcome == "sent"
    assert Hold.objects.active().filter(scope=held.ref, kind="operator").exists()
    assert shown(page(client, "?show=sent")) == [forced.pk]
    assert act(client, "force", [forced.pk], reason="again")[0] == 409


def test_nothing_is_done_without_a_reason_an_entry_or_a_field() -> None:
    entry = parked_rows.keep(1)[0]
    client = operator()

    refusals = [
        act(client, "drop", [entry.pk]),
        act(client, "drop", [], reason="x"),
        act(client, "reroute", [entry.pk], reason="x"),
        act(client, "rename", [entry.pk], reason="x", task=" "),
        act(client, "force", ["1e3"], reason="x"),  # type: ignore[list-item]
    ]

    assert [status for status, _ in refusals] == [409] * 5
    entry.refresh_from_db()
    assert entry.finished_at is None


def test_each_sees_and_changes_their_own_runs_alone() -> None:
    ours, theirs = park(make_site("ours")), park(make_site("theirs"))
    message = parked_rows.keep(1)[0]
    viewer = user_of("view_automationrun", site=Site.objects.get(slug="ours"))
    client = user_of("view_automationrun", "operate_automationrun", site=Site.objects.get(slug="ours"))

    assert shown(page(client)) == [ours.pk]
    assert "data-ask" not in page(viewer).partition('id="content"')[2]
    assert act(viewer, "force", [ours.pk], reason="x")[0] == 403
    assert act(client, "force", [theirs.pk], reason="x")[0] == 409
    assert act(client, "drop", [message.pk], reason="x")[0] == 409
    assert user_of().get(QUEUE).status_code == 403
    assert PauseQueueEntry.objects.waiting().count() == 3


@pytest.mark.parametrize("query", ["?after=x", "?after=1_2_3_4", "?after=9_2026-01-01T00:00:00Z_1_x", "?show=nonsense"])
def test_a_place_that_is_none_is_the_first_page(query: str) -> None:
    entry = parked_rows.keep(1)[0]

    assert shown(page(operator(), query)) == [entry.pk]


def test_a_page_costs_the_same_statements_however_much_waits() -> None:
    client = operator()
    parked_rows.keep(1)
    page(client)

    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            page(client)
        return len(queries)

    before = statements()
    holds.place(["queue:foreign"], actor=OPERATOR, reason="vendor")
    parked_rows.keep(40)

    assert statements() <= before + 1
