"""What commands say of what they did, and of what they could not know."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time

import pytest
from django.db import connection

from automation.agents import registry  # noqa: F401  (members of the fleet)
from pause_manager import fleet
from pause_manager.nodes import members
from tests.support.factories import OPERATOR, leased, make_run, make_site
from tests.support.node_factories import make_node
from tests.support.workers import REPOSITORY

pytestmark = pytest.mark.django_db(transaction=True)

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def test_a_hold_on_what_nobody_knows_is_placed_and_warned_of(shell):
    make_node("vm")

    ended = shell("hold", "place", "node:gpu-7", "node:vm", "lane:any")

    assert (ended.code, ended.out) == (0, "placed: lane:any, node:gpu-7, node:vm\n")
    assert ended.err.splitlines()[-1] == "Warning: No node is called gpu-7 now (known: vm)."
    assert re.search(rf"node:gpu-7  operator \(drain\)  since {TIME} by shell:", shell("hold", "list").out)


def test_workers_are_given_a_second_to_hear_before_it_is_said_that_they_have_not(shell):
    def hears(version: int) -> None:
        members.acknowledge("stages@vm", node="vm", queues=["stages"], version=version)

    def obey() -> None:
        until = time.monotonic() + 30
        while not fleet.state().is_paused and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        hears(fleet.state().version)
        connection.close()

    hears(fleet.state().version)
    worker = threading.Thread(target=obey)
    worker.start()
    paused = shell("fleet", "pause", "--mode", "drain", "--reason", "upgrade")
    worker.join()
    began = time.monotonic()
    resumed = shell("fleet", "resume", "--reason", "done", "--force")  # it hears nothing of this

    assert "have not acknowledged" not in paused.out, paused.out
    assert re.search(rf"^Paused \(drain\) since {TIME} by shell:\w+: upgrade$", paused.out, re.MULTILINE)
    assert "1 of 1 workers have not acknowledged the change: stages@vm." in resumed.out
    assert 1 <= time.monotonic() - began < 10


def test_the_status_of_the_fleet_is_written_for_people(shell):
    run = make_run("few", items=3)
    leased(run)

    told = shell("fleet", "status").out

    assert re.search(rf"^  node-1: item \S+ of \S+ \(run {str(run.pk)[:8]}\), for \d+ s", told, re.MULTILINE), told
    assert "nobody knows" not in told
    assert "+00:00" not in told


def test_a_machine_without_gpus_has_no_columns_for_them(shell):
    make_node("vm")

    told = shell("capacity").out

    assert "memory free" in told
    assert not re.search(r"GPU|busy|°C", told)


def test_the_audit_is_exported_by_how_long_ago(shell, tmp_path):
    make_run("few", items=1)
    file = tmp_path / "audit.jsonl"

    assert shell("export_audit", "--since", "24h", "--output", str(file)).code == 0
    assert file.read_text().count("\n") > 1
    time.sleep(1.1)
    assert shell("export_audit", "--since", "1s", "--output", str(file)).code == 0
    assert file.read_text() == ""
    assert "such as 24h or 2d, got: yesterday" in shell("export_audit", "--since", "yesterday").err


def test_an_agent_that_is_there_and_one_that_is_not_are_told_apart(shell):
    make_site("blog")
    words = ("create_agent", "gpu-1", "--site", "blog")

    first, second = shell(*words, "--pipeline", "drill"), shell(*words)
    rotated, unknown = shell(*words, "--rotate"), shell("create_agent", "gpu-2", "--rotate")

    assert (first.code, first.out.startswith("swa_")) == (0, True)
    assert (second.code, second.err) == (3, "Cannot create agent gpu-1: it exists. --rotate replaces its token.\n")
    assert (rotated.code, rotated.out != first.out) == (0, True)
    assert (unknown.code, unknown.err) == (4, "Cannot find agent gpu-2: it does not exist.\n")
    assert shell("create_agent", "gpu-3", "--site", "nowhere").code == 4
    assert shell("create_agent", "gpu-3").code == 2


def test_a_run_is_explained_in_sentences(shell):
    run = make_run("few", items=3)

    assert shell("pause_run", str(run.pk), "--reason", "lunch").code == 0
    told = shell("explain_run", "latest").out

    assert re.search(
        rf"^- This run was paused by shell:\w+: lunch\. Since {TIME}\. It resumes when an operator resumes it\.$",
        told,
        re.MULTILINE,
    ), told
    shell("cancel_run", "latest")
    assert "Nothing ends that: " in shell("explain_run", "latest").out


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("nope:process", "Cannot import nope: there is no module nope. Is its folder the current one"),
        ("shout:nothing", "Cannot use shout: it has no function nothing."),
        ("shout:__doc__", "Cannot use shout:__doc__: expected a function, got: str."),
    ],
)
def test_the_agent_says_what_is_wrong_with_its_work(work, said):
    command = [sys.executable, "agent.py", "--url", "http://localhost:1", "--work", work]

    done = subprocess.run(
        command,
        cwd=REPOSITORY / "examples" / "agent",
        env={**os.environ, "AGENT_TOKEN": "swa_none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stubborn_item_is_finished_while_the_run_is_pausing():
    from automation.models import AutomationRun
    from automation.reports import status
    from automation.runs import creation, lifecycle
    from tests.support.factories import drain

    run = creation.create(
        "drill",
        site=make_site("blog"),
        actor=OPERATOR,
        params={"items": 3, "seconds": 1.0, "stubborn": True},
        is_forced=True,
    )
    seen: list[str] = []

    def pause() -> None:
        from django.db import connection

        time.sleep(0.4)
        lifecycle.pause(run.pk, actor=OPERATOR)
        seen.append(status.of(AutomationRun.objects.with_leases().get(pk=run.pk)))
        connection.close()

    operator = threading.Thread(target=pause)
    operator.start()
    drain(run)
    operator.join()

    assert seen == ["pausing"]
    assert status.of(AutomationRun.objects.with_leases().get(pk=run.pk)) == "paused"
