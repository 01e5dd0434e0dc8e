"""What an operator may change: whether capacity is watched, a node's own threshold, and one run that starts anyway."""

from __future__ import annotations

import io
import json
import re

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from automation import dispatch, gate
from automation.models import AutomationRun, Lifecycle, Ticket
from pause_manager import manager, nodes
from pause_manager.capacity.needs import Needs
from pause_manager.models import ControlEvent, PauseQueueEntry, WorkerNode
from pause_manager.nodes import watching
from pause_manager.pause_queue import outlook
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.worker.node_monitor import NodeMonitor
from tests.integration.nodes.test_node_monitor import Machine
from tests.support.factories import OPERATOR, drain, events, make_run, make_site, tickets
from tests.support.sampled_fleet import HERE, deliver, full, messages, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def said(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


def said_and_code(name: str, *arguments: str) -> tuple[str, int]:
    """The same with the exit code, which is not 0."""
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(name, *arguments, stdout=out)
    return out.getvalue(), int(ended.value.code or 0)


def refused(name: str, *arguments: str) -> str:
    """Why the command did nothing."""
    with pytest.raises(CommandError) as error:
        call_command(name, *arguments)
    return str(error.value)


def is_waiting(ref: str) -> bool:
    return PauseQueueEntry.objects.waiting().filter(ref=ref).exists()


class TestTheSwitch:
    @pytest.mark.req("P-12")
    def test_off_lets_all_go_on_that_only_capacity_keeps_and_nothing_asks_any_more(self):
        full()
        run = make_run()
        manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")
        assert manager.poll().sent == 0

        assert said("capacity", "off", "--reason", "the demo") == (
            "Capacity is not watched; work that waits only for capacity resumes with the next poll.\n"
        )

        assert manager.poll().sent == 2
        assert sorted(message.task for message in deliver()) == ["automation.go_on", "others.work"]
        assert tickets(run) > 0
        assert drain(run).lifecycle == Lifecycle.COMPLETED
        assert drain(make_run()).lifecycle == Lifecycle.COMPLETED
        (event,) = ControlEvent.objects.filter(action="capacity_unwatched")
        assert (event.reason, event.channel, event.after) == ("the demo", "cli", {"watches_capacity": False})
        assert manager.should_pause(Needs()).code == "not_watched"
        assert OFF in said("capacity")

    def test_on_and_off_are_told_once_and_a_second_time_changes_nothing(self):
        assert watching.set_watched(False, actor=OPERATOR)
        assert not watching.set_watched(False, actor=OPERATOR)
        assert json.loads(said("capacity", "on", "--json")) == {"is_watched": True, "changed": True}
        assert said("capacity", "on") == "Capacity is watched already.\n"
        actions = ControlEvent.objects.filter(scope="fleet").order_by("pk").values_list("action", flat=True)
        assert list(actions) == ["capacity_unwatched", "capacity_watched"]

    def test_a_projects_settings_that_watch_nothing_free_it_too(self, settings):
        full()
        run = make_run()
        settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": False}

        assert manager.poll().sent == 1
        deliver()
        assert tickets(run) > 0

    def test_what_another_hold_keeps_as_well_waits_on(self):
        from automation.runs import lifecycle

        full()
        run = make_run()
        lifecycle.pause(run.pk, actor=OPERATOR)
        watching.set_watched(False, actor=OPERATOR)

        assert manager.poll().sent == 0
        assert is_waiting(run.scope)

    def test_a_saturated_node_takes_work_again_within_seconds(self):
        machine = Machine(NodeMonitor())
        machine.sees(2, foreign=8)
        assert not WorkerNode.objects.get(name=HERE).is_consuming
        watching.set_watched(False, actor=OPERATOR)

        machine.watch._read_due = 0.0
        machine.sees(2, foreign=8)

        assert WorkerNode.objects.get(name=HERE).is_consuming


OFF = "Capacity is not watched: work starts without a capacity check (manage.py capacity on)."


class TestAThreshold:
    def test_is_set_and_taken_away_by_the_command(self):
        node()

        assert said("capacity", "threshold", HERE, "35%", "--reason", "loud") == f"The threshold of {HERE} is 35%.\n"
        assert nodes.live_nodes()[0].pause_below == 0.35
        assert said("capacity", "threshold", HERE, "none") == f"The threshold of {HERE} is that of the settings.\n"
        assert nodes.live_nodes()[0].pause_below is None
        first = ControlEvent.objects.filter(action="threshold_set").order_by("pk")[0]
        assert (first.channel, first.reason, first.after) == ("cli", "loud", {"pause_below": 0.35})

    @pytest.mark.parametrize(
        ("name", "share", "told"),
        [
            (HERE, "135%", "Cannot use the threshold '135%': expected 0% to 100%, 0 to 1, or none."),
            (HERE, "much", "Cannot use the threshold 'much': expected 0% to 100%, 0 to 1, or none."),
            ("nowhere", "0.4", "Cannot set the threshold of node nowhere: none of that name is known."),
        ],
    )
    def test_is_refused_with_a_sentence(self, name, share, told):
        node()
        with pytest.raises(CommandError, match=re.escape(told)):
            said("capacity", "threshold", name, share)

    def test_is_set_over_http_by_operators_of_the_fleet_alone(self):
        node()
        url = f"/api/v1/nodes/{HERE}/threshold/"
        ann, ben = User.objects.create_user("ann"), User.objects.create_user("ben")
        ann.user_permissions.add(Permission.objects.get(codename="operate_fleet"))
        answers = {}
        for user in (ann, ben):
            client = Client()
            client.force_login(user)
            answers[user.username] = client.post(
                url, {"pause_below": 0.4, "reason": "loud"}, content_type="application/json"
            )

        assert (answers["ann"].status_code, answers["ben"].status_code) == (200, 403)
        assert answers["ann"].json() == {"node": HERE, "pause_below": 0.4}
        event = ControlEvent.objects.get(action="threshold_set")
        assert (event.actor, event.channel, event.after) == ("user:ann", "api", {"pause_below": 0.4})
        client = Client()
        client.force_login(ann)
        for path, body, status in (
            (url, {"pause_below": 1.4}, 400),
            (url, {}, 400),
            ("/api/v1/nodes/nowhere/threshold/", {"pause_below": None}, 404),
        ):
            assert client.post(path, body, content_type="application/json").status_code == status

    def test_is_set_in_the_admin(self, admin_client):
        node()
        chosen = [WorkerNode.objects.get(name=HERE).pk]

        def act(threshold: str) -> str:
            form = {"action": "set_threshold", "_selected_action": chosen, "threshold": threshold, "reason": "loud"}
            return str(admin_client.post("/admin/pause_manager/workernode/", form, follow=True).content.decode())

        assert f"The threshold of {HERE} is 12.5%." in act("12.5%")
        assert "expected 0% to 100%" in act("x")
        assert nodes.live_nodes()[0].pause_below == 0.125
        assert ControlEvent.objects.get(action="threshold_set").channel == "admin"


class TestStartingAnyway:
    @pytest.mark.req("P-26")
    def test_a_run_that_waits_is_forced_from_the_shell(self):
        full()
        run = make_run("scripted")

        told = said("resume_run", str(run.pk), "--force", "--reason", "the demo")

        assert told == f"Run {run.pk} is running.\n"
        assert (tickets(run) > 0, is_waiting(run.scope)) == (True, False)
        run.refresh_from_db()
        assert run.ignores_capacity
        (event,) = events(run, "sent_on")
        assert (event.reason, event.details["forced"]) == ("the demo", True)

    @pytest.mark.req("P-26")
    def test_an_operators_hold_goes_with_it_and_other_holds_stay(self):
        from automation.runs import lifecycle
        from pause_manager import holds

        full()
        run = make_run("scripted")
        lifecycle.pause(run.pk, actor=OPERATOR)
        holds.place(["pipeline:scripted"], actor=OPERATOR, reason="not yet")

        told, code = said_and_code("resume_run", str(run.pk), "--force")

        assert told.startswith("It ignores capacity from now on. The run still waits: The pipeline scripted was paused")
        assert code == 8
        run.refresh_from_db()
        assert [reason.code for reason in gate.explain(run)] == ["operator"]
        assert not is_waiting(run.scope)

    def test_a_run_that_does_not_wait_is_forced_for_what_comes(self):
        node()
        run = make_run()
        said("resume_run", str(run.pk), "--force")
        Ticket.objects.all().delete()
        full()
        dispatch.dispatch()

        assert drain(run).lifecycle == Lifecycle.COMPLETED
        assert len(events(run, "forced")) == 1

    def test_one_that_is_over_is_refused(self):
        node()
        run = drain(make_run())

        with pytest.raises(CommandError, match=r"Cannot force run .*: it is completed"):
            said("resume_run", str(run.pk), "--force")

    def test_a_resume_of_a_run_that_waits_for_room_too_says_so(self):
        from automation.runs import lifecycle

        full()
        run = make_run()
        lifecycle.pause(run.pk, actor=OPERATOR)

        told, code = said_and_code("resume_run", str(run.pk))
        again = refused("resume_run", str(run.pk))

        assert told.startswith(f"Your hold is released. The run still waits: This run was paused by capacity: {HERE}, ")
        assert code == 8
        assert again.endswith(f"Start it anyway: manage.py resume_run {str(run.pk)[:8]} --force")

    def test_entries_are_forced_from_the_shell(self):
        full()
        manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")
        entry = PauseQueueEntry.objects.get()
        manager.poll()
        assert "To start one anyway: pause_queue force ENTRY" in said("pause_queue")

        assert said("pause_queue", "force", str(entry.pk), "--reason", "the demo") == "Started anyway: 1.\n"
        assert [message.task for message in messages()] == ["others.work"]
        with pytest.raises(SystemExit) as ended:
            said("pause_queue", "force", str(entry.pk), "--reason", "again")
        assert ended.value.code == 3

    def test_a_run_may_be_started_so(self):
        full()
        make_site("default")

        said("run_pipeline", "drill", "--param", "items=3", "--param", "seconds=0", "--force")

        run = AutomationRun.objects.get()
        assert tickets(run) > 0
        assert drain(run).lifecycle == Lifecycle.COMPLETED


class TestTheFiguresOfNow:
    @pytest.mark.req("P-13", "P-14")
    def test_every_door_tells_what_the_last_poll_saw(self, admin_user):
        full()
        run = make_run()
        node(cores=2, foreign=1.2)
        manager.poll()

        sentence = f"{HERE} has 0.8 of 2 cores free, 1 core needed."
        now = outlook.of_ref(run.scope)
        assert now is not None
        assert (now.code, now.why) == ("does_not_fit", sentence)
        run.refresh_from_db()
        (reason,) = gate.explain(run)
        assert reason.sentence == f"It waits for room: {sentence} Next look in 10 s."
        assert reason.lifted_by == "there is room, or an operator starts it anyway (resume_run --force)"
        assert sentence in said("explain_run", str(run.pk))
        assert json.loads(said("pause_queue", "--json"))["now"]["why"] == sentence
        client = Client()
        client.force_login(admin_user)
        (listed,) = client.get("/api/v1/pause-queue/").json()["results"]
        assert listed["waits_now"] == f"{sentence} Next look in 10 s."

        node(cores=2, foreign=1.5)
        manager.poll()
        assert f"{HERE} has 0.5 of 2 cores free" in said("explain_run", str(run.pk))

    @pytest.mark.parametrize(
        ("view", "needs", "code", "sentence"),
        [
            ({"cores": 10, "foreign": 7.5}, 1, "below_resume_threshold", "parked work resumes only with 3 cores free."),
            ({"cores": 4, "foreign": 2}, 3, "does_not_fit", "has 2 of 4 cores free, 3 cores needed."),
            ({"cores": 4}, 5, "no_eligible_node", "No online node can ever run this: it needs 5 cores."),
        ],
    )
    def test_each_reason_has_a_sentence(self, view, needs, code, sentence):
        node(**view)
        manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs(cpu=needs))], reason="full")

        assert manager.poll().sent == 0

        now = outlook.of_ref("import:1")
        assert now is not None
        assert (now.code, now.why.endswith(sentence)) == (code, True), now.why

    def test_a_node_that_must_settle_says_for_how_long(self):
        from tests.integration.pause_queue.test_claims_obey import remembers

        view = node()
        remembers(cooldown_until=view.sampled_at + 100)
        manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")

        manager.poll()

        now = outlook.of_ref("import:1")
        assert now is not None
        assert re.search(r"it takes no parked work for another (100|99) s, as work there had to give way", now.why)

    def test_before_a_poll_it_is_the_sentence_of_the_moment_it_was_parked(self):
        full()
        run = make_run()
        run.refresh_from_db()

        (reason,) = gate.explain(run)

        assert outlook.of_ref(run.scope) is None
        assert reason.sentence.startswith(f"This run was paused by capacity: {HERE}, the only node that can run this")


def test_no_body_is_read_to_decide():
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    full()
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")
    with CaptureQueriesContext(connection) as queries:
        manager.poll()
        manager.should_pause(Needs())
        outlook.of_ref("import:1")

    named = [query["sql"] for query in queries if '"body"' in query["sql"] or "envelope" in query["sql"]]
    assert named == []
