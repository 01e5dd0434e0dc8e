"""``manage.py up``, started for real in a directory and on a port of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from backend.embedded import Layout
from tests.system import CHILDREN, System, eventually, launch, unused_port

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
    second = launch(system.data_dir, port=unused_port())

    assert second.process.wait(60) == 1
    assert f"Cannot use {system.data_dir}: it is in use by another copy (pid {system.process.pid})." in system.printed
    assert system.is_ready()


def test_a_port_in_use_is_one_clear_sentence(system: System, tmp_path: Path):
    second = launch(tmp_path / "data", port=system.port)

    assert second.process.wait(60) == 1
    assert second.printed.strip() == (
        f"CommandError: Cannot listen on 127.0.0.1:{system.port}: address already in use. "
        "Choose another with --port or PORT=."
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


def test_the_servers_alone_are_there_to_restore_a_backup():
    with tempfile.TemporaryDirectory(prefix="sw-up-") as directory:
        data_dir = Path(directory) / "data"
        system = launch(data_dir, "--servers-only", port=unused_port())
        try:
            assert eventually(lambda: "only PostgreSQL and Redis started" in system.printed), system.printed
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
