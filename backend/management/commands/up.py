"""``manage.py up``: the whole system on one machine, until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_slug
from django.db import Error as DatabaseError
from django.db import connections

from backend import bootstrap
from backend.embedded import EmbeddedError, Postgres, Redis, Server
from backend.supervisor import Supervisor
from pause_manager import database, nodes, watching

FIRST_SAMPLE_SECONDS = 10
"""Longest wait for the first sample of this machine."""


class Command(BaseCommand):
    """Starts servers, web, workers and beat, and keeps them running until Ctrl-C or SIGTERM."""

    help = "Start the whole system on this machine and keep it running until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
        parser.add_argument("--concurrency", type=int, default=os.cpu_count(), help="stage worker processes (cores)")
        parser.add_argument("--run-pipeline", metavar="PIPELINE", help="run this pipeline once when everything is up")
        parser.add_argument("--input", type=Path, help="input file of that run")
        parser.add_argument("--site", type=_slug, default="default", help="site of that run, created if new (default)")
        parser.add_argument("--param", action="append", default=[], metavar="K=V", help="parameter of that run")
        parser.add_argument(
            "--servers-only", action="store_true", help="PostgreSQL and Redis alone, to restore a backup"
        )
        parser.add_argument("--llm-port", type=int, help="serve a small model on this port, for the provider openai")

    def handle(self, **options: Any) -> None:
        servers = _servers()
        supervisor = Supervisor(servers, settings.LAYOUT.log_dir)
        try:
            settings.LAYOUT.create()
            with _only_one(settings.DATA_DIR):
                if not options["servers_only"]:
                    _require_free_port(options["host"], options["port"])
                supervisor.install_signals()
                for server in servers:
                    server.start()
                if options["servers_only"]:
                    names = " and ".join(server.name for server in servers)
                    supervisor.run(lambda: "", lambda: supervisor.say(f"only {names or 'nothing'} started"))
                else:
                    self._run(supervisor, **options)
                for server in reversed(servers):
                    server.stop()
        except EmbeddedError as error:
            raise CommandError(str(error)) from error
        finally:
            for server in reversed(servers):
                server.stop()
        supervisor.say("stopped")

    def _run(self, supervisor: Supervisor, *, host: str, port: int, **options: Any) -> None:
        url = f"http://{'localhost' if host in {'127.0.0.1', '0.0.0.0'} else host}:{port}"
        self._prepare_database(supervisor, url, options["site"])
        env = {**os.environ, "DATA_DIR": str(settings.DATA_DIR), "PYTHONUNBUFFERED": "1"}
        env["SLACKWATER_ROOT_PID"] = str(os.getpid())
        if options["llm_port"]:
            _require_free_port("127.0.0.1", options["llm_port"])
            env["TEXT_PROVIDER_BASE_URL"] = f"http://127.0.0.1:{options['llm_port']}/v1"
            supervisor.add("llm", [*_manage(), "serve_llm", "--port", str(options["llm_port"])], env)
        for name, command in _commands(host, port, options["concurrency"]).items():
            supervisor.add(name, command, env)

        def when_ready() -> None:
            if not watching.is_watched():
                supervisor.say("capacity is not watched (manage.py capacity on)")
            connections.close_all()
            supervisor.say(f"ready: {url} (credentials for scripts: {settings.DATA_DIR / 'credentials.json'})")
            if options["run_pipeline"]:
                supervisor.foreground = subprocess.Popen(_run_pipeline(options), env=env)

        since: list[float] = []

        def what_is_missing() -> str:
            if missing := _what_is_missing(f"http://{host}:{port}/readyz"):
                return missing
            since.append(time.monotonic())
            # Before a node has told of itself there is no room to be seen, and the first run would be parked.
            return _unseen_nodes() if time.monotonic() < since[0] + FIRST_SAMPLE_SECONDS else ""

        supervisor.run(what_is_missing, when_ready)

    def _prepare_database(self, supervisor: Supervisor, url: str, site: str) -> None:
        try:
            credentials, fresh = bootstrap.prepare(
                settings.DATA_DIR / "credentials.json",
                url,
                may_reset_password=settings.EMBEDDED_POSTGRES,
                site=site,
                say=supervisor.say,
            )
        except DatabaseError as error:
            if not database.is_away(error):
                raise
            raise CommandError(f"{database.sentence(error).removesuffix('.')}.") from error
        finally:
            connections.close_all()
        if fresh:
            line = f"sign in as {credentials.username} with password {credentials.password} (shown only once)"
            supervisor.say(line, secret=True)


def _slug(text: str) -> str:
    try:
        validate_slug(text)
    except ValidationError:
        raise ArgumentTypeError(f"expected letters, numbers, - and _, got: {text}") from None
    return text


def _servers() -> list[Server]:
    servers: list[Server] = []
    if settings.EMBEDDED_POSTGRES:
        servers.append(Postgres(settings.LAYOUT))
    if settings.EMBEDDED_REDIS:
        servers.append(Redis(settings.LAYOUT))
    return servers


def _only_one(data_dir: Path) -> IO[str]:
    """A lock that ends with this process, however it ends; closing it gives the directory back."""
    lock = (data_dir / "up.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise CommandError(f"Cannot use {data_dir}: it is in use by another copy (pid {owner}).") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _require_free_port(host: str, port: int) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OverflowError:
        raise CommandError(f"--port: expected 1 to 65535, got: {port}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"Cannot listen on {host}:{port}: {reason}. Choose another with --port or PORT=.") from error


def _commands(host: str, port: int, concurrency: int) -> dict[str, list[str]]:
    celery = [sys.executable, "-m", "celery", "--quiet", "--workdir", str(settings.BASE_DIR), "-A", "backend"]
    worker = [*celery, "worker", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    web = [sys.executable, "-m", "uvicorn", "backend.asgi:application", "--app-dir", str(settings.BASE_DIR)]
    # Django decides whom to believe about addresses (NUM_PROXIES); uvicorn would believe whoever is on this machine.
    web += ["--log-level", "warning", "--lifespan", "off", "--timeout-graceful-shutdown", "5", "--no-proxy-headers"]
    return {
        "web": [*web, "--host", host, "--port", str(port)],
        "worker": [*worker, "-Q", "stages", "-n", "stages@%h", "--concurrency", str(concurrency)],
        "control": [*worker, "-Q", "control", "-n", "control@%h", "--pool", "threads", "--concurrency", "4"],
        "beat": [*celery, "beat", "--loglevel", "WARNING"],
    }


def _manage() -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py")]


def _run_pipeline(options: dict[str, Any]) -> list[str]:
    command = [*_manage(), "run_pipeline", options["run_pipeline"]]
    if options["input"]:
        command += ["--input", str(options["input"])]
    for param in options["param"]:
        command += ["--param", param]
    # Whoever asks for this one run on this one machine wants to see it end, however busy the machine is.
    return [*command, "--site", options["site"], "--force", "--wait"]


def _unseen_nodes() -> str:
    """Whether capacity is watched and no worker has sampled this machine yet."""
    try:
        if not watching.is_watched() or any(state.is_online for state in nodes.states()):
            return ""
    except DatabaseError:
        pass
    finally:
        connections.close_all()
    return "no worker has told of this machine yet"


def _what_is_missing(url: str) -> str:
    """What ``/readyz`` complains of; empty when it is content."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except urllib.error.HTTPError as answer:
        checks = json.load(answer).get("checks", {})
        return ", ".join(f"{name}: {word}" for name, word in checks.items() if word != "ok")
    except OSError as error:
        return f"the web process does not answer ({error})"
