"""The pause queue on the command line and in the admin, and why work would wait."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from automation.models import Ticket
from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import make_run
from tests.support.sampled_fleet import HERE, full, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def said(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.req("P-32")
def test_the_command_shows_what_waits_and_why():
    assert said("pause_queue") == "Nothing waits; the first poll comes within 10 s of beat's start.\n"
    full()
    run = make_run()
    manager.poll()

    table = " ".join(said("pause_queue").split())
    (line,) = said("pause_queue", "--json").splitlines()

    assert run.scope in table
    assert "1 core" in table
    assert "1 waits; the last poll was at " in table
    told = json.loads(line)
    assert (told["ref"], told["priority"], told["needs"]["cpu"]) == (run.scope, 3, 1.0)
    assert "only with 1.6 cores free" in told["reason"]


def test_why_says_what_would_become_of_new_work():
    full()
    assert said("capacity", "--why", "numbers").startswith(f"echo (needs 1 core) would wait: {HERE}, the only node")
    node()
    assert said("capacity", "--why", "numbers") == (f"echo (needs 1 core) may start: {HERE} has 8 of 8 cores free.\n")
    assert json.loads(said("capacity", "--why", "numbers", "--json"))["figures"]["best_free_share"] == 1.0
    with pytest.raises(CommandError, match="Cannot find pipeline 'nothing': expected one of"):
        said("capacity", "--why", "nothing")


@pytest.mark.req("P-26")
def test_a_superuser_forces_entries_in_the_admin(admin_client):
    full()
    run, other = make_run(), make_run()
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")
    path = "/admin/pause_manager/pausequeueentry/"
    assert run.scope in admin_client.get(path).content.decode()

    def act(action: str, *refs: str) -> str:
        chosen = list(PauseQueueEntry.objects.filter(ref__in=refs).values_list("pk", flat=True))
        form = {"action": action, "_selected_action": chosen, "reason": "the demo"}
        return str(admin_client.post(path, form, follow=True).content.decode())

    assert "Resumed: 1." in act("force_resume", run.scope)
    assert Ticket.objects.filter(stage_run__run=run).exists()
    assert run.scope not in admin_client.get(path).content.decode()
    assert run.scope in admin_client.get(path, {"state": "all"}).content.decode()
    assert "no longer waits" in act("force_resume", run.scope)
    page = act("force_pause", other.scope, "import:1")
    assert "Paused: 1." in page
    assert "only runs are held" in page
    hold = Hold.objects.active().get(kind="operator")
    assert (hold.scope, hold.reason) == (other.scope, "the demo")


def test_the_queue_in_the_admin_is_for_superusers(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("sue", is_staff=True))

    assert client.get("/admin/pause_manager/pausequeueentry/").status_code == 403
