"""A whole fleet of real processes over servers of its own, to be killed in every way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil
import psycopg
import redis

from backend.embedded import EmbeddedError, Layout, Postgres, Redis, die_with_parent
from tests.chaos.ledger import Ledger

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "SLACKWATER_CHAOS"
READY = {"stages": " ready.", "control": " ready.", "beat": "beat: Starting"}
WEB_READY = "Uvicorn running"
T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 60, every: float = 0.05) -> T:
    """What ``condition`` returned last: at the first truth, or when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return met


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _role(name: str) -> str:
    """``beat`` for ``beat-2``."""
    return name.partition("-")[0]


class Fleet:
    """PostgreSQL, Redis, a stage worker, a control worker, beat and a desk. Nothing of it outlives :meth:`close`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = uuid4().hex
        self.layout = Layout(root / "data")
        self.postgres = Postgres(self.layout)
        self.redis = Redis(self.layout)
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.start_seconds = 0.0
        self.port = unused_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        self.env = kept | {
            "DATABASE_URL": self.layout.database_url,
            "REDIS_URL": self.layout.redis_url,
            "REDIS_PREFIX": "chaos:",
            "DATA_DIR": str(self.layout.data_dir),
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "PYTHONUNBUFFERED": "1",
            "CHAOS_DOUBLE": str(root / "double"),
            "CHAOS_STUCK": str(root / "stuck"),
            MARK: self.mark,
        }
        self._own_env: dict[str, Mapping[str, str]] = {}
        self._log_starts: dict[str, int] = {}
        self._special: set[str] = set()
        self._options: dict[str, tuple[str, ...]] = {}
        self._told_to_end: set[str] = set()
        self._starting = threading.RLock()
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self.restarts: list[str] = []
        self._desk: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Start everything and return when all of it is ready."""
        self.postgres.start()
        self.redis.start()
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=REPOSITORY, env=self.env, check=True, timeout=120)
        began = time.monotonic()
        self.start("stages", wait=False)
        self.start("control", wait=False)
        self.start("beat", wait=False)
        for name in ("stages", "control", "beat"):
            self.wait_until_ready(name)
        self.start_seconds = time.monotonic() - began
        self._supervisor.start()

    def close(self) -> None:
        """End everything by force, whatever state it is in."""
        self._closing.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for process in self.everything():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for member in self.members.values():
            member.wait(10)
        self.members.clear()
        if self._desk is not None:
            self._desk.communicate()
            self._desk = None
        self.redis.stop()
        self.postgres.stop()

    def everything(self) -> list[psutil.Process]:
        """Every live process that was started with this fleet's mark, orphans included; the servers excepted."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def mend(self) -> None:
        """Start whatever is dead."""
        if not self.postgres.is_alive():
            self.start_postgres()
        if not self.redis.is_alive():
            self.redis.start()
        started = []
        with self._starting:
            for name, member in list(self.members.items()):
                if name not in READY:
                    if member.poll() is None:
                        self.kill(name)
                    del self.members[name]
                elif member.poll() is not None or name in self._special:
                    if member.poll() is None:
                        self.kill(name)
                    self.start(name, wait=False)
                    started.append(name)
        for name in started:
            self.wait_until_ready(name)

    def _supervise(self) -> None:
        """Start again what ended without having been told to, as any supervisor does."""
        while not self._closing.wait(0.5):
            with self._starting:
                for name, member in list(self.members.items()):
                    if member.poll() is not None and name not in self._told_to_end:
                        self.restarts.append(name)
                        self.start(name, *self._options[name], wait=False)

    # Members

    def start(self, name: str, *options: str, wait: bool = True, env: Mapping[str, str] | None = None) -> None:
        """Start a member: ``stages…``, ``control…``, ``beat…``. Without options a stage worker is prefork with two.

        ``env`` is what it has besides, and whoever takes its place.
        """
        if env is not None:
            self._own_env[name] = env
        celery = [sys.executable, "-m", "celery", "--quiet", "-A", "backend"]
        worker = [*celery, "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
        commands = {
            "control": [*worker, "-Q", "control", "-n", f"{name}@%h", "--pool", "threads", "--concurrency", "4"],
            "beat": [*celery, "beat", "--loglevel", "INFO"],
            "web": [sys.executable, "-m", "uvicorn", "backend.asgi:application", "--port", str(self.port)],
        }
        command = commands.get(_role(name)) or [*worker, "-Q", "stages", "-n", f"{name}@%h", *(options or ("-c", "2"))]
        with self._starting:
            self._start(name, command, options)
        if wait:
            self.wait_until_ready(name)

    def _start(self, name: str, command: list[str], options: tuple[str, ...]) -> None:
        (self._special.add if options else self._special.discard)(name)
        self._options[name] = options
        self._told_to_end.discard(name)
        with self.log(name).open("ab") as log:
            self._log_starts[name] = log.tell()
            self.members[name] = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**self.env, **self._own_env.get(name, {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def wait_until_ready(self, name: str, seconds: float = 60) -> None:
        sign = WEB_READY if name == "web" else READY.get(_role(name), READY["stages"])
        ready = eventually(lambda: sign in self.said(name), seconds)
        assert ready, f"{name} did not start:\n{self.said(name)[-3000:]}"

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def said(self, name: str) -> str:
        """What ``name`` has logged since it was last started."""
        with self.log(name).open("rb") as log:
            log.seek(self._log_starts[name])
            return log.read().decode(errors="replace")

    def send(self, name: str, signum: int, *, group: bool = False) -> None:
        """Signal the parent process of ``name``, or all of its session."""
        self._told_to_end.add(name)
        member = self.members[name]
        if group:
            os.killpg(member.pid, signum)
        else:
            member.send_signal(signum)

    def kill(self, name: str, *, group: bool = True) -> None:
        """SIGKILL, and gather what died."""
        self.send(name, signal.SIGKILL, group=group)
        self.members[name].wait(10)

    def stop(self, name: str, seconds: float = 60) -> float:
        """SIGTERM to the parent, as a supervisor does; seconds until it had ended."""
        began = time.monotonic()
        self.send(name, signal.SIGTERM)
        self.members[name].wait(seconds)
        return time.monotonic() - began

    def restart(self, name: str, *options: str) -> None:
        if self.members[name].poll() is None:
            self.stop(name)
        self.start(name, *options)

    def children(self, name: str) -> list[psutil.Process]:
        return psutil.Process(self.members[name].pid).children(recursive=True)

    # Servers

    def crash_postgres(self) -> None:
        """Immediate shutdown: no checkpoint, recovery from the log at the next start."""
        process = self.postgres.process
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        process.wait(20)

    def start_postgres(self) -> None:
        def started() -> bool:
            with contextlib.suppress(EmbeddedError):
                self.postgres.start()
                return True
            return False

        assert eventually(started, 30, every=0.2)

    @contextlib.contextmanager
    def doubled_messages(self) -> Iterator[None]:
        """Every message to a stage is published twice meanwhile, whoever sends it."""
        sign = Path(self.env["CHAOS_DOUBLE"])
        sign.touch()
        try:
            yield
        finally:
            sign.unlink()

    def flush_redis(self) -> None:
        with redis.Redis.from_url(self.layout.redis_url) as client:
            client.flushall()

    # Looking and asking

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.layout.database_url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.layout.database_url, autocommit=True) as connection:
            connection.execute(statement)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``manage.py`` as an operator has it."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, env=self.env, capture_output=True, text=True, timeout=120)

    def ask(self, verb: str, **order: Any) -> dict[str, Any]:
        """Have the desk do something; its answer, or an ``AssertionError`` with its complaint."""
        answer = self.try_to(verb, **order)
        assert "error" not in answer, answer
        return answer

    def try_to(self, verb: str, **order: Any) -> dict[str, Any]:
        if self._desk is None or self._desk.poll() is not None:
            self._desk = self._open_desk()
        assert self._desk.stdin is not None
        self._desk.stdin.write(json.dumps({"verb": verb, **order}) + "\n")
        self._desk.stdin.flush()
        return self._read_desk(self._desk)

    def _open_desk(self) -> subprocess.Popen[str]:
        with self.log("desk").open("ab") as log:
            desk = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.operator_process"],
                cwd=REPOSITORY,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        assert self._read_desk(desk) == {"ready": True}
        return desk

    @staticmethod
    def _read_desk(desk: subprocess.Popen[str]) -> dict[str, Any]:
        assert desk.stdout is not None
        answer: dict[str, Any] = json.loads(desk.stdout.readline())
        return answer


@contextlib.contextmanager
def fleet_in(root: Path, env: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """An open fleet that is closed for sure; leaves an assertion if a process survived."""
    fleet = Fleet(root)
    fleet.env.update(env or {})
    try:
        fleet.open()
        yield fleet
    finally:
        fleet.close()
    left = eventually(lambda: None if fleet.everything() else True, 10)
    assert left, f"left behind: {fleet.everything()}"


def ledger_of(fleet: Fleet) -> Ledger:
    """A new ledger file of ``fleet``."""
    return Ledger(fleet.root / f"ledger-{uuid4().hex[:8]}.txt")
