"""``manage.py up``, started for real in a directory and on a port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from backend.embedded import Layout
from tests.support.system import CHILDREN, REPOSITORY, System, eventually, launch, unused_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        running = launch(Path(directory) / "data", port=unused_port())
        try:
            assert eventually(running.is_ready), running.printed
            yield running
        finally:
            running.process.terminate()
            running.process.wait(60)


def test_scripts_get_credentials_that_nobody_else_can_read(system: System):
    path = system.data_dir / "credentials.json"
    credentials = json.loads(path.read_text())
    request = urllib.request.Request(
        f"{credentials['url']}/api/schema/", headers={"Authorization": f"Token {credentials['token']}"}
    )

    assert path.stat().st_mode & 0o777 == 0o600
    assert credentials["username"] == "operator"
    assert system.printed.count(credentials["password"]) == 1
    for log in (system.data_dir / "logs").iterdir():
        assert credentials["password"] not in log.read_text()
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_comes_back_by_itself(system: System, name: str):
    killed = eventually(lambda: system.child(name))
    orphans = killed.children()

    killed.kill()

    assert eventually(lambda: (child := system.child(name)) is not None and child.pid != killed.pid)
    assert eventually(system.is_ready)
    _, left = psutil.wait_procs(orphans, timeout=20)
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
    assert f"{name} ended with SIGKILL" in system.printed


@pytest.mark.parametrize("binary", ["postgres", "redis-server"])
def test_a_killed_server_comes_back_by_itself(system: System, binary: str):
    def server() -> psutil.Process | None:
        for process in psutil.Process(system.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if process.name().startswith(binary):
                    return process
        return None

    killed = server()
    assert killed is not None

    killed.kill()

    assert eventually(lambda: (found := server()) is not None and found.pid != killed.pid)
    assert eventually(system.is_ready)


def test_a_second_copy_in_the_same_directory_is_refused(system: System):
    second = launch(system.data_dir, "--run-pipeline", "drill", port=system.port)

    assert second.process.wait(60) == 3
    said = system.printed.splitlines()[-1]
    assert f"in use by another copy (pid {system.process.pid}), up at http://localhost:{system.port}." in said
    assert "To run this there: .venv/bin/python manage.py run_pipeline drill --wait." in said
    assert (
        f"To start a second copy: make up PORT={system.port + 1} DATA_DIR={system.data_dir}-{system.port + 1}." in said
    )
    assert system.is_ready()


def test_a_killed_process_is_one_line_with_one_time(system: System):
    credentials = json.loads((system.data_dir / "credentials.json").read_text())
    assert f"(sign in as {credentials['username']}; password and token for scripts in " in system.printed
    assert eventually(system.is_ready)
    run = system.call(
        "automation/runs/", {"pipeline": "drill", "site": "default", "params": {"items": 50, "seconds": 0.2}}
    )
    system.call(f"automation/runs/{run['id']}/resume/", {"force": True}) if run["status"] == "paused" else None
    worker = eventually(lambda: system.child("worker"))
    assert eventually(lambda: system.call(f"automation/runs/{run['id']}/progress/")["in_flight"], 120)
    log = system.data_dir / "logs" / "worker.log"
    told_before = len(log.read_text().splitlines()) if log.exists() else 0

    killed = worker.children()[0]
    killed.kill()

    def told() -> list[str]:
        return [line for line in log.read_text().splitlines()[told_before:] if str(killed.pid) in line]

    (line,) = eventually(told)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC WARNING \w+: ", line), line
    assert line.endswith(f"Process {killed.pid} ended with signal 9 (SIGKILL); another process resumes its work.")
    assert "Traceback" not in log.read_text()
    assert eventually(lambda: system.call(f"automation/runs/{run['id']}/")["status"] == "completed", 120)
    assert "Traceback" not in log.read_text()


def test_a_port_in_use_is_one_clear_sentence(system: System, tmp_path: Path):
    second = launch(tmp_path / "data", port=system.port)

    assert second.process.wait(60) == 2
    assert not second.data_dir.exists()
    assert second.printed.strip() == (
        f"CommandError: Cannot listen on 127.0.0.1:{system.port}: address already in use. "
        "Choose another port with --port or PORT=."
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_and_the_next_start_goes_on(signum: signal.Signals):
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        first = launch(Path(directory) / "data", port=unused_port())
        assert eventually(first.is_ready), first.printed
        password = json.loads((first.data_dir / "credentials.json").read_text())["password"]
        processes = first.everything()

        assert first.stop(signum) == 0

        _, left = psutil.wait_procs(processes, timeout=5)
        assert not left
        assert first.printed.rstrip().endswith("stopped")
        second = launch(first.data_dir, port=unused_port())
        assert eventually(second.is_ready), second.printed
        credentials = json.loads((first.data_dir / "credentials.json").read_text())
        assert credentials["password"] == password
        assert credentials["url"].endswith(f":{second.port}")
        assert second.printed.count(password) == 1
        second.stop()


RUN = re.compile(r"^Run ([0-9a-f-]{36}) of ", re.MULTILINE)


def test_what_ctrl_c_says_is_true_and_the_next_start_goes_on_with_the_same_run():
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        data_dir = Path(directory) / "data"
        drill = ("--run-pipeline", "drill", "--param", "items=400", "--param", "seconds=0.2")

        first = launch(data_dir, *drill, port=unused_port())
        assert eventually(lambda: "Work: " in first.printed, 120), first.printed
        assert first.stop(signal.SIGINT) == 0
        said = first.printed
        (run,) = RUN.findall(said)
        ((short, percent),) = re.findall(
            r"stopping everything: run (\w{8}) is at (\d+) %; (?:it continues|they continue) at the next make up", said
        )
        assert (run.startswith(short), 0 <= int(percent) < 100) == (True, True)
        assert "not affected" not in said

        second = launch(data_dir, *drill, port=unused_port())
        assert eventually(lambda: "is unfinished (running); continuing it" in second.printed, 120), second.printed
        assert set(RUN.findall(second.printed)) == {run}
        second.stop(signal.SIGINT)
        assert "messages were lost" not in second.printed
        logs = "".join(log.read_text() for log in (data_dir / "logs").glob("*.log"))
        assert not re.search(r"WARNING automation\.dispatch", logs)

        third = launch(data_dir, *drill, "--new-run", port=unused_port())
        assert eventually(lambda: len(set(RUN.findall(third.printed))) == 2, 120), third.printed
        third.stop(signal.SIGINT)
        assert "they continue at the next make up" in third.printed


def test_shells_have_the_apps_that_the_system_was_started_with():
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        app = Path(directory) / "elsewhere" / "own_photos"
        app.mkdir(parents=True)
        (app / "__init__.py").touch()
        (app / "pipelines.py").write_text(PHOTOS)
        system = launch(
            Path(directory) / "data", port=unused_port(), PYTHONPATH=str(app.parent), SLACKWATER_APPS="own_photos"
        )
        try:
            assert eventually(system.is_ready), system.printed
            env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
            env |= {"DATA_DIR": str(system.data_dir), "DJANGO_SETTINGS_MODULE": "backend.settings.dev"}
            command = [sys.executable, "manage.py", "run_pipeline", "own-photos", "--force", "--wait"]

            done = subprocess.run(
                command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False, timeout=100
            )

            assert done.returncode == 0, done.stderr
            assert "is completed." in done.stdout
        finally:
            system.stop()


PHOTOS = """
from automation.pipeline import Pipeline, Stage, register


class One(Stage):
    slug = "one"
    title = "One"

    def process(self, item, ctx):
        yield item


@register
class OwnPhotos(Pipeline):
    slug = "own-photos"
    title = "Photos"
    stages = (One,)
    needs_input = False

    @classmethod
    def make_items(cls, params):
        return ({"n": n} for n in range(3))
"""


def test_the_servers_alone_are_there_to_restore_a_backup():
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        data_dir = Path(directory) / "data"
        system = launch(data_dir, "--servers-only", port=unused_port())
        try:
            assert eventually(lambda: "started PostgreSQL and Redis only" in system.printed), system.printed
            assert not any(system.child(name) for name in CHILDREN)
            with psycopg.connect(Layout(data_dir).database_url) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        finally:
            assert system.stop() == 0


def test_nothing_is_left_when_it_is_killed():
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        system = launch(Path(directory) / "data", port=unused_port())
        assert eventually(system.is_ready), system.printed
        processes = system.everything()

        system.process.kill()
        system.process.wait()

        _, left = psutil.wait_procs(processes, timeout=30)
        assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
