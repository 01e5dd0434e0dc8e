"""Each change has exactly one event, with who, through which door, why, and what it was before and is after."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from automation import leases
from automation.models import Account, Membership
from automation.runs import lifecycle
from pause_manager import holds, manager, nodes, pause_queue
from pause_manager.actor import CAPACITY, SYSTEM, Actor
from pause_manager.capacity.needs import Needs
from pause_manager.models import ControlEvent, Hold, PauseQueueEntry
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, events, leased, make_run, make_site, settle
from tests.support.node_factories import make_node

pytestmark = pytest.mark.django_db


def told(scope: str, since: int = 0) -> list[tuple[str, str, Any, Any]]:
    """(action, actor, before, after) of the scope's events, oldest first."""
    found = ControlEvent.objects.filter(scope=scope, pk__gt=since).order_by("pk")
    return [(event.action, event.actor, event.before, event.after) for event in found]


def last() -> int:
    return ControlEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


@pytest.mark.req("W-03")
def test_a_hold_tells_what_is_in_force_since_and_what_was():
    holds.place(["queue:gpu"], mode="drain", actor=OPERATOR, reason="the demo")
    holds.place(["queue:gpu"], mode="quiesce", actor=OPERATOR, reason="again")  # changes nothing
    holds.release(["queue:gpu"], actor=SYSTEM, reason="over")
    holds.release(["queue:gpu"], actor=SYSTEM)

    (placed, released) = told("queue:gpu")
    held = {"kind": "operator", "mode": "drain", "reason": "the demo", "actor": "user:olga"}
    assert placed == ("hold_placed", "user:olga", None, held)
    assert released[:2] == ("hold_released", "system")
    assert released[2] == held | {"since": Hold.objects.get().created_at.isoformat()}
    assert released[3] is None
    first = ControlEvent.objects.filter(scope="queue:gpu").order_by("pk").first()
    assert first is not None
    assert (first.channel, first.request_id) == ("test", "request-1")


def test_the_end_of_a_timed_hold_is_told_as_the_systems():
    past = timezone.now() - timedelta(seconds=1)
    holds.place(["queue:gpu"], actor=OPERATOR, expires_at=past, on_expiry="keep")
    holds.place(["queue:cpu"], actor=OPERATOR, expires_at=past, on_expiry="resume")

    holds.expire()
    holds.expire()

    assert told("queue:gpu")[1:] == [("hold_overdue", "system", {"expires_at": past.isoformat()}, {"expires_at": None})]
    assert [event[:2] for event in told("queue:cpu")] == [("hold_placed", "user:olga"), ("hold_released", "system")]


@pytest.mark.django_db(transaction=True)
def test_every_step_of_a_run_is_told_once():
    run = make_run(items=3, start=False)

    lifecycle.start_run(run.pk, actor=OPERATOR, reason="now")
    settle(run)

    steps = [(event.action, event.before, event.after) for event in events(run)]
    assert steps == [
        ("create", None, {"lifecycle": "pending", "start_requested": False}),
        ("start_requested", None, None),
        ("start", {"lifecycle": "pending"}, {"lifecycle": "running"}),
        ("stage_started", None, None),
        ("stage_completed", None, None),
        ("complete", {"lifecycle": "running"}, {"lifecycle": "completed"}),
    ]


@pytest.mark.django_db(transaction=True)
def test_who_asked_for_a_start_that_comes_later_is_kept():
    run = make_run(items=3, start=False)
    holds.place(["pipeline:numbers"], actor=OPERATOR, reason="not yet")
    seen = last()

    lifecycle.start_run(run.pk, actor=OPERATOR, reason="when it can")
    holds.release(["pipeline:numbers"], actor=SYSTEM)
    settle(run)

    assert [event[:2] for event in told(run.scope, seen)[:2]] == [("start_requested", "user:olga"), ("start", "system")]


def test_a_cancel_tells_from_where():
    pending, running = make_run(items=3, start=False), make_run(items=3)
    work = leased(running)

    for run in (pending, running):
        lifecycle.cancel(run.pk, actor=OPERATOR, reason="wrong input")
        lifecycle.cancel(run.pk, actor=OPERATOR, reason="wrong input")
    leases.release(work)
    lifecycle.finish_cancels()

    asked = ("cancel_requested", "user:olga", {"cancel_requested": False}, {"cancel_requested": True})
    cancelled = {"lifecycle": "cancelled"}
    assert told(pending.scope)[1:] == [asked, ("cancel", "user:olga", {"lifecycle": "pending"}, cancelled)]
    assert told(running.scope)[3:] == [asked, ("cancel", "user:olga", {"lifecycle": "running"}, cancelled)]


@pytest.mark.req("W-28")
def test_parking_sending_on_forcing_and_dropping_are_told_once_each():
    def park(ref: str) -> PauseQueueEntry:
        given = WithheldDispatch(ref=ref, task_name="tests.nothing", queue="nowhere", needs=Needs(), priority=2)
        for _ in range(2):  # the second finds it waiting
            manager.pause_work([given], reason="no room", details={"code": "no_room"})
        return PauseQueueEntry.objects.waiting().get(ref=ref)

    sent, forced = park("mine:sent"), park("mine:forced")
    dropped = park("run:00000000-0000-0000-0000-000000000001")
    pause_queue.send_on([sent.pk], actor=CAPACITY, reason="room")
    pause_queue.send_on([sent.pk], actor=CAPACITY, reason="room")
    manager.force_resume(forced.pk, actor=OPERATOR, reason="urgent")
    holds.release([dropped.ref], kind="capacity", actor=OPERATOR, reason="not needed")

    for entry, action, actor, outcome in (
        (sent, "sent_on", "capacity", "sent"),
        (forced, "sent_on", "user:olga", "sent"),
        (dropped, "dropped", "user:olga", "dropped"),
    ):
        steps = [step for step in told(entry.ref) if not step[0].startswith("hold_")]
        waiting = {"paused_at": entry.paused_at.isoformat(), "priority": 2, "reason": "no room"}
        assert steps == [
            ("parked", "capacity", None, {"task": "tests.nothing", "priority": 2}),
            (action, actor, waiting, {"outcome": outcome}),
        ]
    assert ControlEvent.objects.filter(action="sent_on", details__forced=True).count() == 1


def test_a_threshold_is_told_when_it_changes():
    make_node("n1")

    for value in (0.4, 0.4, None):
        assert nodes.set_threshold("n1", value, actor=OPERATOR, reason="loud neighbours")
    assert not nodes.set_threshold("n2", 0.4, actor=OPERATOR)

    assert told("node:n1") == [
        ("threshold_set", "user:olga", {"pause_below": None}, {"pause_below": 0.4}),
        ("threshold_set", "user:olga", {"pause_below": 0.4}, {"pause_below": None}),
    ]


def test_forms_of_the_admin_are_told_with_what_they_changed():
    root = User.objects.create_superuser("root")
    client = Client(headers={"X-Request-ID": "from-the-admin"})
    client.force_login(root)
    account = make_site("ours").account
    inline = {"membership_set-TOTAL_FORMS": "1", "membership_set-INITIAL_FORMS": "0"}
    member = {"membership_set-0-user": str(root.pk), "membership_set-0-account": str(account.pk)}
    change = reverse("admin:automation_account_change", args=[account.pk])

    client.post(reverse("admin:automation_account_add"), {"name": "New", **inline})
    client.post(change, {"name": "Renamed", **inline, **member})
    client.post(change, {"name": "Renamed", **inline, "membership_set-TOTAL_FORMS": "0"})  # changes nothing
    membership = Membership.objects.get()
    client.post(reverse("admin:automation_membership_delete", args=[membership.pk]), {"post": "yes"})
    new = Account.objects.get(name="New")
    client.post(
        reverse("admin:automation_account_changelist"),
        {"action": "delete_selected", "_selected_action": [str(new.pk)], "post": "yes"},
    )

    assert told(f"account:{new.pk}") == [
        ("created", "user:root", None, {"name": "New"}),
        ("deleted", "user:root", {"name": "New"}, None),
    ]
    changed = ControlEvent.objects.get(scope=f"account:{account.pk}")
    assert (changed.before, changed.after) == ({"name": "Account of ours"}, {"name": "Renamed"})
    assert changed.details == {"added": ["root in Renamed"]}
    assert (changed.channel, changed.request_id) == ("admin", "from-the-admin")
    assert told(f"membership:{membership.pk}") == [("deleted", "user:root", {"name": "root in Renamed"}, None)]


def test_an_actor_without_a_request_takes_the_id_of_the_one_at_work():
    from pause_manager.observability import log_context

    with log_context.bound(request_id="the-one"):
        holds.place(["queue:a"], actor=Actor("user:ann", "console"))
    holds.place(["queue:b"], actor=Actor("user:ann", "console"))

    assert list(ControlEvent.objects.order_by("pk").values_list("request_id", flat=True)) == ["the-one", ""]
