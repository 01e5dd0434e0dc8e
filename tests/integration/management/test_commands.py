"""The run commands as a person or a script meets them: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from automation.models import AutomationRun, Site
from automation.runs import creation
from pause_manager.models import ControlEvent
from tests.support.factories import OPERATOR, make_site, settle
from tests.support.workers import REPOSITORY

COMMANDS = ("run_pipeline", "watch_run", "pause_run", "resume_run", "cancel_run", "explain_run")
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site() -> Site:
    return make_site("blog")


@pytest.fixture
def workers(process_env: dict[str, str]) -> Iterator[None]:
    """A real Celery worker for stages and control."""
    celery = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "backend",
        "worker",
        "-Q",
        "stages,control",
        "-P",
        "threads",
        "-c",
        "4",
    ]
    process = subprocess.Popen(
        [*celery, "--without-gossip", "--without-mingle", "--loglevel", "WARNING"],
        cwd=REPOSITORY,
        env=process_env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def make_drill(site: Site, params: dict[str, Any] | None = None) -> AutomationRun:
    return creation.create("drill", site=site, actor=OPERATOR, params=params)


def test_every_command_documents_its_exit_codes(shell):
    for command in COMMANDS:
        said = shell(command, "--help").out
        for line in ("3    refused", "4    no such run or site", "5    the run was cancelled"):
            assert line in said, command


def test_a_run_is_created_from_a_file(shell, site, tmp_path):
    words = tmp_path / "words.csv"
    words.write_text("keyword\nfood stamps\nstate tax\nFood Stamps\n")

    ended = shell(
        "run_pipeline", "content", "--input", str(words), "--site", "blog", "--param", "words=300", "--timeout", "90m"
    )

    run = AutomationRun.objects.get()
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert f"Run {run.pk} of content: 2 items, 1 duplicate left out." in ended.out
    assert (run.site, run.total_items, run.params["words"], run.timeout_seconds) == (site, 2, 300, 5400)
    assert run.created_by.startswith("shell:")


def test_a_run_is_created_from_standard_input_and_told_as_json(shell, site):
    given = "a word\n\nanother\n"
    ended = shell("run_pipeline", "content", "--input", "-", "--site", "blog", "--json", stdin=given)

    (told,) = ended.objects
    assert told["run"] == str(AutomationRun.objects.get().pk)
    assert (told["total_items"], told["blank"], told["duplicates"], told["encoding"]) == (2, 1, 0, "utf-8")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("content", "--input", "missing.csv"), 2, "Cannot read missing.csv: no such file or directory."),
        (("content", "--input", "{bad}"), 2, "line 3: expected 2 columns, got: 1."),
        (("content", "--input", "{good}", "--param", "words=many"), 2, "Cannot use parameter 'words'"),
        (("content", "--input", "{good}", "--param", "words"), 2, "expected name=value, got: 'words'"),
        (("content",), 2, "it needs input items"),
        (("drill", "--input", "{good}"), 2, "it makes its own items and takes no input"),
        (("drill", "--timeout", "soon"), 2, "expected a time such as 90s, 10m or 2h, got: 'soon'"),
        (("nothing",), 2, "Cannot find pipeline 'nothing': expected one of "),
        (("drill", "--site", "elsewhere"), 4, "Cannot find site 'elsewhere'."),
    ],
)
def test_what_cannot_be_used_is_said_and_leaves_no_run(shell, site, tmp_path, words, code, said):
    (tmp_path / "good.csv").write_text("keyword\na\n")
    (tmp_path / "bad.csv").write_text("keyword,n\na,1\nb\n")
    words = [word.format(good=tmp_path / "good.csv", bad=tmp_path / "bad.csv") for word in words]
    if "--site" not in words:
        words += ["--site", "blog"]

    ended = shell("run_pipeline", *words)

    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not AutomationRun.objects.exists()


def test_a_run_is_paused_explained_resumed_and_cancelled(shell, site):
    run = make_drill(site)
    pk = str(run.pk)

    assert shell("pause_run", pk, "--reason", "lunch").out == f"Run {pk} is paused.\n"
    assert "paused by shell:" in shell("explain_run", pk).out
    assert shell("pause_run", pk).code == 0
    assert shell("resume_run", pk).out == f"Run {pk} is running.\n"
    assert "paused by" not in shell("explain_run", pk).out
    refused = shell("resume_run", pk)
    assert (refused.code, refused.out) == (3, "")
    assert refused.err == f"Cannot resume run {pk}: it is running.\n"
    assert shell("cancel_run", pk).out == f"Run {pk} is cancelled.\n"
    assert shell("cancel_run", pk).code == 0
    assert shell("pause_run", pk).code == 3
    assert shell("watch_run", pk).code == 5
    paused = ControlEvent.objects.filter(scope=run.scope, reason="lunch").get()
    assert paused.actor.startswith("shell:")
    assert paused.channel == "cli"


def test_json_tells_the_state_and_refusals(shell, site):
    run = make_drill(site)

    (told,) = shell("pause_run", str(run.pk), "--json").objects
    reasons = shell("explain_run", str(run.pk), "--json").objects[0]["reasons"]
    shell("resume_run", str(run.pk))
    refused = shell("resume_run", str(run.pk), "--json")

    assert (told["status"], told["lifecycle"], told["site"]) == ("paused", "running", "blog")
    assert [reason["code"] for reason in reasons] == ["operator"]
    assert json.loads(refused.err)["error"] == "transition_refused"
    assert refused.code == 3


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_the_latest(shell, site):
    first, second = make_drill(site), make_drill(site)

    assert str(first.pk) in shell("explain_run", str(first.pk)[:10]).out
    assert str(second.pk) in shell("explain_run", "latest").out
    assert shell("explain_run", "0" * 32).code == 4
    assert shell("explain_run", "../etc").code == 2


def test_the_exit_code_of_watching_tells_how_the_run_ended(shell, site):
    done = settle(make_drill(site, {"items": 3, "seconds": 0}))

    ended = shell("watch_run", str(done.pk), "--json")

    assert ended.code == 0
    last, final = ended.objects[-2:]
    assert last["overall"]["processed_items"] == 3
    assert final["lifecycle"] == "completed"


@pytest.mark.slow
def test_a_missing_database_is_one_sentence(shell, site):
    shell.env["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"

    ended = shell.outside("explain_run", "latest")

    assert ended.code == 1
    assert ended.err.startswith("Cannot use the database: ")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.skipif(find_spec("xllamacpp") is not None, reason="the model's packages are installed")
def test_serving_a_model_without_its_packages_says_what_to_install(shell):
    ended = shell("serve_llm")

    assert ended.code == 1
    assert ended.err.endswith("it needs the package xllamacpp; install requirements-llm.txt.\n")


@pytest.mark.slow
@pytest.mark.usefixtures("workers")
def test_waiting_follows_a_run_to_its_end_and_says_where_the_outputs_are(shell, site, tmp_path):
    words = tmp_path / "words.csv"
    words.write_text("keyword\nfood stamps\nstate tax\nsummer jobs\n")

    ended = shell.outside("run_pipeline", "content", "--input", str(words), "--site", "blog", "--wait")

    assert ended.code == 0, ended.err
    assert "completed 100.0 %" in ended.out
    pages = [line.removeprefix("Outputs: ") for line in ended.out.splitlines() if line.endswith("index.html")]
    assert [Path(page).is_file() for page in pages] == [True]


@pytest.mark.slow
@pytest.mark.usefixtures("workers")
def test_interrupting_the_watcher_leaves_the_run_going(shell, site):
    process = shell.start(
        "run_pipeline", "drill", "--site", "blog", "--param", "items=500", "--param", "seconds=0.2", "--wait"
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    run = AutomationRun.objects.get()

    assert process.returncode == 130
    assert str(run.pk) in first
    assert f"manage.py pause_run {run.pk}" in out
    assert run.lifecycle == "running"
    assert shell("cancel_run", str(run.pk)).code == 0
    deadline = time.monotonic() + 15
    while AutomationRun.objects.get().lifecycle != "cancelled" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert AutomationRun.objects.get().lifecycle == "cancelled"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_terminal_shows_the_stages_in_place(shell, site):
    run = settle(make_drill(site, {"items": 3, "seconds": 0}))
    main, terminal = os.openpty()
    command = [sys.executable, "manage.py", "watch_run", str(run.pk)]
    env = {**shell.env, "TERM": "xterm", "COLUMNS": "120"}

    process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(main, 4_096):
            shown += chunk
    except OSError:
        pass
    os.close(main)

    assert process.wait(20) == 0
    assert "3 of 3" in shown.decode()
    assert "completed" in shown.decode()
