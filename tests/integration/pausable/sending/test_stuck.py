"""What nobody takes up stays in the queue, is seen, and can be dropped, renamed and rerouted."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from pause_manager import fleet, pause_queue
from pause_manager.actor import SYSTEM
from pause_manager.database import batches
from pause_manager.messaging import broker, broker_connection
from pause_manager.models import ControlEvent, PauseQueueEntry
from pause_manager.nodes import known_tasks, members
from pause_manager.pausable import confirmations, redispatch
from pause_manager.pause_queue import stuck, writer
from pause_manager.pause_queue.stuck import InvalidEntryCommand, Selection
from tests.support.api_users import client_of
from tests.support.factories import OPERATOR
from tests.support.foreign_project import Foreign, hold, release
from tests.support.parked_rows import QUEUE, keep, were_sent
from tests.support.race import race
from tests.support.scrape import Scrape
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

OLD, NEW = "tests.foreign.tasks.gone", "tests.foreign.tasks.add"


def go_on() -> int:
    return redispatch.dispatch_released(actor=SYSTEM, reason="free")


def sent_one(**values: Any) -> PauseQueueEntry:
    (entry,) = keep(1, **values)
    assert go_on() == 1
    entry.refresh_from_db()
    return entry


def a_worker_knows(*names: str, queue: str = QUEUE, name: str = "one@n") -> None:
    members.acknowledge(name, node="n", queues=[queue], version=1, task_names=names)


def events(action: str) -> list[ControlEvent]:
    return list(ControlEvent.objects.filter(action=action).order_by("pk"))


class TestSettingAside:
    def test_only_the_last_message_that_nobody_has_taken_up_is_set_aside(self):
        entry = sent_one()
        aside = partial(pause_queue.set_aside, entry.pk, problem="unknown_task", reason="nobody knows it")

        assert not aside(generation=2)
        assert not pause_queue.set_aside(entry.pk + 1, 1, "unknown_task", "nobody knows it")
        assert aside(generation=1)
        assert not aside(generation=1), "it waits already"

        entry.refresh_from_db()
        assert (entry.outcome, entry.problem, entry.reason) == ("", "unknown_task", "nobody knows it")
        assert (entry.attempts, entry.losses, entry.sent_at) == (1, 1, None)
        (event,) = [one for one in events("parked") if one.details.get("again")]
        assert event.details == {"entry": entry.pk, "again": True, "problem": "unknown_task"}

    def test_what_is_answered_is_not_set_aside(self):
        entry = sent_one()
        PauseQueueEntry.objects.filter(pk=entry.pk).update(confirmed_at=Now())

        assert not pause_queue.set_aside(entry.pk, 1, "unreadable", "content refused")

    def test_an_unknown_problem_is_refused(self):
        with pytest.raises(ValueError, match="odd"):
            pause_queue.set_aside(sent_one().pk, 1, "odd", "")

    def test_either_it_is_set_aside_or_it_is_lost(self):
        for _ in range(20):
            entry = sent_one()
            sent = PauseQueueEntry.objects.unconfirmed().filter(pk=entry.pk)
            aside, reopened = race(
                partial(pause_queue.set_aside, entry.pk, 1, "unreadable", "no"),
                partial(pause_queue.reopen, sent, "its message was lost"),
            )
            entry.refresh_from_db()
            assert (bool(aside), reopened) in ((True, 0), (False, 1))
            assert entry.losses == 1
            entry.delete()

    def test_what_is_unreadable_is_tried_again_later_and_later(self):
        entry = sent_one()
        waits = []
        for generation in range(1, 10):
            assert pause_queue.set_aside(entry.pk, generation, "unreadable", "content type not accepted")
            assert go_on() == 0, "it is not sent before its time"
            later, now = PauseQueueEntry.objects.values_list("resume_after", Now()).get()
            assert later is not None
            waits.append(round((later - now).total_seconds() / 60))
            PauseQueueEntry.objects.update(resume_after=Now() - timedelta(seconds=1))
            assert go_on() == 1
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_it_blocks_no_other(self):
        stuck_ones = [sent_one(priority=1) for _ in range(3)]
        for entry in stuck_ones:
            pause_queue.set_aside(entry.pk, 1, "unknown_task", "nobody knows it")
        keep(5)

        assert go_on() == 5
        assert list(PauseQueueEntry.objects.stuck()) == stuck_ones

    def test_an_unknown_task_goes_on_when_a_live_worker_of_its_queue_knows_it(self):
        entry = sent_one()
        pause_queue.set_aside(entry.pk, 1, "unknown_task", "nobody knows it")
        a_worker_knows(entry.task_name, queue="other", name="elsewhere@n")
        a_worker_knows("something.else", name="old@n")
        redispatch.reconcile()
        entry.refresh_from_db()
        assert (entry.outcome, entry.problem) == ("", "unknown_task")

        a_worker_knows(entry.task_name, name="new@n")
        redispatch.reconcile()

        entry.refresh_from_db()
        assert (entry.outcome, entry.generation, entry.problem) == ("sent", 2, "")
        (event,) = events("known_again")
        assert event.before == {"problem": "unknown_task", "reason": "nobody knows it"}


def test_revoked_tasks_are_marked_once():
    entries = keep(3)
    ids = [entry.ref.removeprefix("task:") for entry in entries[:2]]

    assert confirmations.mark_revoked([*ids, "of-nobody"]) == 2
    assert confirmations.mark_revoked(ids) == 0
    assert PauseQueueEntry.objects.filter(revoked_at=None).count() == 1
    assert [event.after for event in events("revoked")] == [{"revoked": True}] * 2


class TestNamesThatNobodyKnows:
    def test_they_are_told_before_the_resume(self, shell):
        fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR, confirmation="pause")
        keep(12, task="gone")
        keep(3)
        a_worker_knows(NEW)

        assert [(one.task_name, one.queue, one.count) for one in known_tasks.stuck_messages().unknown] == [
            (OLD, QUEUE, 12)
        ]
        sentence = f"12 parked messages of the task {OLD}: no live worker that serves queue {QUEUE} knows it"
        assert sentence in shell("fleet", "status").out
        assert any(sentence in warning for warning in shell("fleet", "status", "--json").objects[0]["warnings"])

        a_worker_knows(OLD, name="two@n")
        assert known_tasks.stuck_messages().unknown == []
        assert "parked" not in shell("fleet", "status").out

    def test_whoever_may_not_see_the_work_is_told_how_many(self):
        keep(2, task="gone")
        a_worker_knows(NEW)

        told = fleet.snapshot(with_blockers=False)["warnings"]

        assert told == ["2 parked messages are of tasks that no live worker knows."]

    def test_workers_that_do_not_tell_are_not_held_against_it(self):
        keep(2, task="gone")
        members.acknowledge("old@n", node="n", queues=[QUEUE], version=1)

        assert known_tasks.stuck_messages().unknown == []


class TestVerbs:
    def test_nothing_chosen_and_what_makes_no_sense_is_refused(self):
        who: dict[str, Any] = {"actor": OPERATOR, "reason": "x"}
        refused: list[Any] = [
            lambda: stuck.drop(Selection(), **who),
            lambda: stuck.drop(Selection(problem="odd"), **who),
            lambda: stuck.rename(OLD, OLD, **who),
            lambda: stuck.rename(OLD, " ", **who),
            lambda: stuck.rename(OLD, "a\0b", **who),
            lambda: stuck.reroute(Selection((1,)), "", **who),
        ]
        for verb in refused:
            with pytest.raises(InvalidEntryCommand, match="Cannot"):
                verb()

    def test_a_dropped_message_on_its_way_is_not_run(self):
        entry = sent_one()
        assert stuck.drop(Selection((entry.pk,)), actor=OPERATOR, reason="nobody needs it") == [entry.pk]

        assert not confirmations.confirm_once((entry.pk, 1), "tag", uuid4(), is_redelivered=False)
        assert stuck.drop(Selection((entry.pk,)), actor=OPERATOR, reason="again") == []
        (event,) = events("dropped")
        assert (event.before or {})["outcome"] == "sent"
        assert (event.after or {})["outcome"] == "dropped"
        assert (event.actor, event.reason) == (OPERATOR.name, "nobody needs it")

    def test_a_task_at_work_is_let_alone(self):
        entry = sent_one()
        PauseQueueEntry.objects.filter(pk=entry.pk).update(confirmed_at=Now())

        for changed in (
            stuck.drop(Selection((entry.pk,)), actor=OPERATOR, reason="x"),
            stuck.reroute(Selection((entry.pk,)), "other", actor=OPERATOR, reason="x"),
            stuck.rename(entry.task_name, NEW + "2", actor=OPERATOR, reason="x"),
        ):
            assert changed == []

    def test_what_was_parked_anew_while_its_message_was_on_its_way_waits_once(self):
        from pause_manager import manager
        from pause_manager.actor import CAPACITY
        from pause_manager.capacity.needs import Needs
        from pause_manager.pause_queue.writer import WithheldDispatch

        def park() -> PauseQueueEntry:
            manager.pause_work([WithheldDispatch("import:1", NEW, QUEUE, Needs(), (1, 2))], reason="full")
            return PauseQueueEntry.objects.waiting().get()

        first = park()
        pause_queue.send_on([first.pk], actor=CAPACITY, reason="room")
        second = park()

        assert stuck.reroute(Selection(task_name=NEW), "other", actor=OPERATOR, reason="x") == [second.pk]
        were_sent(100_000)
        assert pause_queue.reopen(PauseQueueEntry.objects.unconfirmed(), "its message was lost") == 0

        first.refresh_from_db()
        assert first.outcome == "dropped"

    def test_a_message_goes_by_its_new_name_to_its_new_queue(self):
        keep(1, task="gone", problem="unknown_task")
        assert len(stuck.rename(OLD, NEW, actor=OPERATOR, reason="renamed in 2.0")) == 1
        assert len(stuck.reroute(Selection(task_name=NEW), "other", actor=OPERATOR, reason="moved")) == 1

        assert go_on() == 1
        assert (broker.queue_depth(QUEUE), broker.queue_depth("other")) == (0, 1)
        with broker_connection.connected(_connection, 3.0) as connected:
            message = connected.default_channel.basic_get("other")
        assert message.headers["task"] == NEW
        (renamed,) = events("renamed")
        assert ((renamed.before or {})["task"], (renamed.after or {})["task"]) == (OLD, NEW)
        (rerouted,) = events("rerouted")
        assert ((rerouted.before or {})["queue"], (rerouted.after or {})["queue"]) == (QUEUE, "other")

    def test_by_the_command(self, shell):
        keep(3, task="gone", problem="unknown_task")
        (other,) = keep(1, problem="refused", resume_after="2100-01-01T00:00Z")

        assert "Nobody takes up 3:" in shell("pause_queue").out
        assert len(shell("pause_queue", "--problem", "unknown_task", "--json").objects) == 3
        renamed = shell("pause_queue", "rename", OLD, NEW, "--reason", "renamed in 2.0")
        assert (renamed.code, renamed.out) == (0, "Renamed: 3.\n")
        again = shell("pause_queue", "rename", OLD, NEW, "--reason", "renamed in 2.0")
        assert (again.code, again.out) == (3, "Nothing was changed: no entry is meant.\n")
        told = shell("pause_queue", "reroute", str(other.pk), "--to", "wide", "--reason", "full", "--json")
        assert (told.code, told.objects) == (0, [{"verb": "reroute", "entries": [other.pk]}])
        other.refresh_from_db()
        assert (other.queue, other.problem, other.resume_after) == ("wide", "", None)
        dropped = shell("pause_queue", "drop", "--task", NEW, "--reason", "too late")
        assert (dropped.code, dropped.out) == (0, "Dropped: 4.\n")
        wrong = shell("pause_queue", "drop", "--reason", "x", "--json")
        assert (wrong.code, '"error":"entry_command_invalid"' in wrong.err) == (2, True)
        assert shell("pause_queue", "drop", "1").code == 2, "a reason is needed"
        assert shell("pause_queue").out.startswith("Nothing waits")
        assert {event.channel for event in [*events("renamed"), *events("rerouted"), *events("dropped")]} == {"cli"}

    def test_what_is_on_its_way_is_told_of(self, shell):
        sent_one()

        assert "Sent on and not taken up yet: 1." in shell("pause_queue").out

    def test_by_the_api(self):
        root = client_of(User.objects.create_superuser("root"))
        first, second, third = keep(3, task="gone", problem="unknown_task")
        keep(1)
        api = "/api/v1/pause-queue/"

        listed = root.get(f"{api}?problem=unknown_task").data["results"]
        assert [entry["id"] for entry in listed] == [first.pk, second.pk, third.pk]
        assert {entry["problem"] for entry in listed} == {"unknown_task"}
        assert len(root.get(api).data["results"]) == 4
        assert root.get(f"{api}?problem=odd").status_code == 400

        body = {"queue": "wide", "reason": "full"}
        assert root.post(f"{api}{first.pk}/reroute/", body).data["queue"] == "wide"
        assert root.post(f"{api}{second.pk}/drop/", {"reason": "no"}).status_code == 200
        assert root.post(f"{api}{second.pk}/drop/", {"reason": "no"}).status_code == 404
        assert root.post(f"{api}nonsense/drop/").status_code == 404
        renamed = root.post(f"{api}rename/", {"old": OLD, "new": NEW, "reason": "renamed in 2.0"})
        assert renamed.data == {"entries": [first.pk, third.pk]}
        assert root.post(f"{api}rename/", {"old": OLD, "new": OLD}).data["code"] == "entry_command_invalid"
        assert {event.channel for event in [*events("renamed"), *events("rerouted"), *events("dropped")]} == {"api"}

    def test_by_the_admin(self):
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        first, second, third = keep(3, task="gone", problem="unknown_task")

        def act(action: str, *entries: PauseQueueEntry, **fields: str) -> str:
            url = reverse("admin:pause_manager_pausequeueentry_changelist")
            chosen = [str(entry.pk) for entry in entries]
            data = {"action": action, "_selected_action": chosen, "reason": "by hand", **fields}
            return client.post(url, data, follow=True).content.decode()

        assert "Rerouted: 1." in act("reroute", first, name="wide")
        assert "Renamed: 2." in act("rename", first, second, name=NEW)
        assert "Dropped: 1." in act("drop", third)
        assert "Not changed, as they are runs or no longer wait: 1" in act("drop", third)
        assert "expected the name of a queue" in act("reroute", first)
        page = client.get(reverse("admin:pause_manager_pausequeueentry_changelist"), {"problem__exact": "unknown_task"})
        assert page.status_code == 200
        found = PauseQueueEntry.objects.order_by("pk").values_list("task_name", "queue", "outcome")
        assert list(found) == [(NEW, "wide", ""), (NEW, QUEUE, ""), (OLD, QUEUE, "dropped")]

    def test_they_are_counted(self):
        keep(2, problem="unknown_task")
        keep(1, problem="refused")
        (done,) = keep(1, problem="refused")
        stuck.drop(Selection((done.pk,)), actor=OPERATOR, reason="x")

        scrape = Scrape.of_the_view()

        told = {
            sample.labels["problem"]: sample.value
            for sample in scrape.samples
            if sample.name == "slackwater_pause_queue_stuck"
        }
        assert told == {"unknown_task": 2, "refused": 1, "unreadable": 0, "unconfirmed": 0}


def _connection(**options: Any) -> Any:
    from celery import current_app

    return current_app.connection_for_read(**options)


@pytest.mark.slow
def test_a_renamed_task_runs_once_under_its_new_name(foreign: Foreign):
    hold()
    keep(2, task="gone")
    task_ids = [entry.ref.removeprefix("task:") for entry in PauseQueueEntry.objects.order_by("pk")]
    a_worker_knows(OLD + "2", name="told@n")
    assert [one.count for one in known_tasks.stuck_messages().unknown] == [2]
    stuck.rename(OLD, NEW, actor=OPERATOR, reason="renamed in 2.0")
    foreign.worker("one")
    release()

    assert [foreign.ended(task_id) for task_id in task_ids] == [["SUCCESS", 1], ["SUCCESS", 2]]
    assert sorted(foreign.notes("add")) == [["add", 0, 1], ["add", 1, 1]]
    assert eventually(lambda: not PauseQueueEntry.objects.unconfirmed().exists())


@pytest.mark.slow
def test_what_expires_while_it_waits_is_revoked_by_celerys_own_rules(foreign: Foreign):
    foreign.worker("one")
    hold()
    past = "2026-01-01T00:00:00+00:00"
    (entry, lasting) = keep(1, headers={"expires": past}, expires_at=past) + keep(1)
    foreign.workers.stop("one")
    task_id = entry.ref.removeprefix("task:")

    redispatch.reconcile()
    redispatch.reconcile()

    entry.refresh_from_db()
    assert (entry.outcome, entry.generation) == ("expired", 0)
    (event,) = events("expired")
    assert (event.scope, event.after) == (entry.ref, {"outcome": "expired"})
    assert broker.queue_depth(QUEUE) == 1
    release()
    foreign.worker("two")
    assert foreign.ended(task_id)[0] == "REVOKED"
    assert foreign.ended(lasting.ref.removeprefix("task:"))[0] == "SUCCESS"
    assert [note[0] for note in foreign.notes()] == ["add"]


def test_with_the_broker_away_what_has_expired_waits_on(tmp_path):
    from tests.integration.pausable.sending.test_sender import operating

    past = "2026-01-01T00:00:00+00:00"
    (entry,) = keep(1, headers={"expires": past}, expires_at=past)
    hold()
    with operating(f"redis+socket://{tmp_path}/none.sock"):
        redispatch.reconcile()
    entry.refresh_from_db()
    assert entry.outcome == ""
    broker_connection.note_away(is_away=False)

    redispatch.reconcile()
    entry.refresh_from_db()
    assert entry.outcome == "expired"


class TestForgetting:
    def test_all_that_ended_long_ago_goes_and_nothing_else(self, django_assert_num_queries, monkeypatch):
        monkeypatch.setattr(batches, "SIZE", 4)
        long_ago = {"finished_at": "2020-01-01T00:00Z"}
        keep(5, outcome="dropped", **long_ago)
        keep(2, outcome="sent", sent_at="2020-01-01T00:00Z", confirmed_at="2020-01-01T00:00Z", **long_ago)
        PauseQueueEntry.objects.bulk_create(
            [
                PauseQueueEntry(
                    ref=f"run:{number}", task_name="x", queue="x", outcome="sent", confirmed_at=Now(), **long_ago
                )
                for number in range(2)
            ]
        )
        PauseQueueEntry.objects.filter(ref__startswith="run:").update(confirmed_at="2020-01-01T00:00Z")
        left = {
            *keep(1),
            *keep(1, outcome="sent", sent_at="2020-01-01T00:00Z", **long_ago),  # nobody has answered it
            *keep(1, outcome="dropped", finished_at=Now()),
        }

        with django_assert_num_queries(3):
            assert writer.forget() == 9

        assert set(PauseQueueEntry.objects.all()) == left
