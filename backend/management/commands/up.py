"""``manage.py up``: the whole system on one machine, until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug
from django.db import Error as DatabaseError
from django.db import connections

from automation.models import AutomationRun
from automation.reports import progress
from automation.runs import run_names
from backend import bootstrap
from backend.embedded import EmbeddedError, Postgres, Redis, Server, die_with_parent
from backend.settings import environment, own_apps
from backend.supervision import preflight
from backend.supervision.supervisor import Supervisor
from pause_manager import database, nodes
from pause_manager.management.shell import Exit
from pause_manager.nodes import watching

LOCK = "up.lock"
MOST_NAMED = 3
LONGEST_SITE = 60
FIRST_SAMPLE_SECONDS = 10
"""The longest wait for the first sample of this machine."""


class Command(BaseCommand):
    """Starts servers, web, workers and beat, and keeps them running until Ctrl-C or SIGTERM."""

    help = "Start the whole system on this machine and keep it running until Ctrl-C."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # One sentence instead of twenty lines of usage: the arguments may come from make.
        parser.error = partial(_refuse_arguments, parser)  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=_port, default=8000, help="port to listen on (8000)")
        parser.add_argument(
            "--concurrency", type=_processes, default=os.cpu_count(), help="stage worker processes (cores)"
        )
        parser.add_argument(
            "--run-pipeline", metavar="PIPELINE", help="run this pipeline once when the system is ready"
        )
        parser.add_argument("--input", type=Path, help="input file of that run")
        parser.add_argument(
            "--site", type=_slug, default="default", help="site of that run, created if missing (default)"
        )
        parser.add_argument("--new-run", action="store_true", help="start that run even if the same one is unfinished")
        parser.add_argument("--param", action="append", default=[], metavar="K=V", help="parameter of that run")
        parser.add_argument(
            "--servers-only", action="store_true", help="start PostgreSQL and Redis only, to restore a backup"
        )
        parser.add_argument(
            "--llm-port", type=_port, help="serve a small language model on this port, for the provider openai"
        )

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        finally:
            environment.undo()  # a refused start leaves nothing behind

    def handle(self, **options: Any) -> None:
        self._check(options)
        servers = _servers()
        supervisor = Supervisor(servers, settings.LAYOUT.log_dir)
        try:
            settings.LAYOUT.create()
            with _only_one(settings.DATA_DIR, _url(options["host"], options["port"]), options):
                supervisor.install_signals()
                for server in servers:
                    server.start()
                if options["servers_only"]:
                    names = " and ".join(server.name for server in servers)
                    supervisor.run(lambda: "", lambda: supervisor.say(f"started {names or 'nothing'} only"))
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

    def _check(self, options: dict[str, Any]) -> None:
        """Refuse what cannot be started before anything is created."""
        try:
            preflight.check_run(options["run_pipeline"], options["param"], options["input"])
            _refuse_second(settings.DATA_DIR, options)
            if not options["servers_only"]:
                preflight.check_port("--port or PORT=", options["host"], options["port"], "")
            if options["llm_port"]:
                preflight.check_port("--llm-port or LLM_PORT=", "127.0.0.1", options["llm_port"], "")
        except preflight.Unfit as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None

    def _run(self, supervisor: Supervisor, *, host: str, port: int, **options: Any) -> None:
        url = _url(host, port)
        own_apps.remember(settings.OWN_APPS, settings.DATA_DIR)
        self._prepare_database(supervisor, url, options["site"])
        env = {**os.environ, "DATA_DIR": str(settings.DATA_DIR), "PYTHONUNBUFFERED": "1"}
        env["SLACKWATER_ROOT_PID"] = str(os.getpid())
        if options["llm_port"]:
            env["TEXT_PROVIDER_BASE_URL"] = f"http://127.0.0.1:{options['llm_port']}/v1"
            supervisor.add("llm", [*_manage(), "serve_llm", "--port", str(options["llm_port"])], env)
        for name, command in _commands(host, port, options["concurrency"]).items():
            supervisor.add(name, command, env)

        path = settings.DATA_DIR / "credentials.json"

        def when_ready() -> None:
            if not watching.is_watched():
                supervisor.say("capacity is not watched (to watch it: manage.py capacity on)")
            connections.close_all()
            supervisor.say(f"ready: {url} (sign in as {bootstrap.OPERATOR}; password and token for scripts in {path})")
            if options["run_pipeline"]:
                # In a group of its own: Ctrl-C reaches this process only, which then stops that one.
                supervisor.foreground = subprocess.Popen(
                    _run_pipeline(options), env=env, process_group=0, preexec_fn=die_with_parent(signal.SIGTERM)
                )

        since: list[float] = []

        def what_is_missing() -> str:
            if missing := _what_is_missing(f"http://{_in_url(host)}:{port}/readyz"):
                return missing
            since.append(time.monotonic())
            # Before a node has reported there is no known capacity, and the first run would have to wait.
            return _unseen_nodes() if time.monotonic() < since[0] + FIRST_SAMPLE_SECONDS else ""

        supervisor.run(what_is_missing, when_ready, _what_stops)

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
            raise CommandError(database.sentence(error)) from error
        finally:
            connections.close_all()
        if fresh:
            line = f"the password of {credentials.username} is {credentials.password} (shown only once)"
            supervisor.say(line, secret=True)


def _refuse_arguments(parser: CommandParser, message: str) -> NoReturn:
    parser.exit(Exit.USAGE, f"Cannot start: {message}. See manage.py up --help.\n")


def _slug(text: str) -> str:
    try:
        validate_slug(text)
    except ValidationError:
        raise ArgumentTypeError(f"expected letters, numbers, - and _, got: {text}") from None
    if len(text) > LONGEST_SITE:
        raise ArgumentTypeError(f"expected at most {LONGEST_SITE} characters, got {len(text)}: {text[:20]}…")
    return text


def _servers() -> list[Server]:
    servers: list[Server] = []
    if settings.EMBEDDED_POSTGRES:
        servers.append(Postgres(settings.LAYOUT))
    if settings.EMBEDDED_REDIS:
        servers.append(Redis(settings.LAYOUT))
    return servers


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65_535):
        raise ArgumentTypeError(f"expected a port from 1 to 65535, got: {text!r}")
    return int(text)


def _processes(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 1_000):
        raise ArgumentTypeError(f"expected 1 to 1000 processes, got: {text!r}")
    return int(text)


def _url(host: str, port: int) -> str:
    return f"http://{'localhost' if host in {'127.0.0.1', '0.0.0.0'} else _in_url(host)}:{port}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refuse_second(data_dir: Path, options: dict[str, Any]) -> None:
    """Refuse if a system runs on ``data_dir`` already, and say where. Creates nothing."""
    if (data_dir / LOCK).exists():
        _locked(data_dir, options).close()


def _only_one(data_dir: Path, url: str, options: dict[str, Any]) -> IO[str]:
    """Lock ``data_dir`` until the file is closed or this process ends, however it ends."""
    lock = _locked(data_dir, options)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n{'' if options['servers_only'] else url}\n")
    lock.flush()
    return lock


def _locked(data_dir: Path, options: dict[str, Any]) -> IO[str]:
    try:
        lock = (data_dir / LOCK).open("a+")
    except OSError as error:
        fact = (error.strerror or str(error)).lower()
        raise CommandError(f"Cannot use DATA_DIR {data_dir}: {fact}.", returncode=Exit.USAGE) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid, url, *_ = [*lock.read().splitlines(), "unknown", ""]
        lock.close()
        raise CommandError(_is_up(data_dir, pid, url, options), returncode=Exit.REFUSED) from None
    return lock


def _is_up(data_dir: Path, pid: str, url: str, options: dict[str, Any]) -> str:
    message = f"Cannot start on {data_dir}: it is in use by another copy (pid {pid})"
    message += f", up at {url}." if url else "."
    if url and options["run_pipeline"]:
        command = ["run_pipeline", options["run_pipeline"]]
        command += ["--input", str(options["input"])] if options["input"] else []
        message += f" To run this there: .venv/bin/python manage.py {shlex.join(command)} --wait."
    port = options["port"] + 1
    return f"{message} To start a second copy: make up PORT={port} DATA_DIR={data_dir}-{port}."


def _commands(host: str, port: int, concurrency: int) -> dict[str, list[str]]:
    celery = [sys.executable, "-m", "celery", "--quiet", "--workdir", str(settings.BASE_DIR), "-A", "backend"]
    worker = [*celery, "worker", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
    web = [sys.executable, "-m", "uvicorn", "backend.asgi:application", "--app-dir", str(settings.BASE_DIR)]
    # Django decides which proxies to trust (NUM_PROXIES); uvicorn would trust every process on this machine.
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
    command = [*_manage(), "run_pipeline", options["run_pipeline"], "--within-up"]
    command += [] if options["new_run"] else ["--unless-unfinished"]
    if options["input"]:
        command += ["--input", str(options["input"])]
    for param in options["param"]:
        command += ["--param", param]
    # --force: this run is to finish, however busy the machine is.
    return [*command, "--site", options["site"], "--force", "--wait"]


def _what_stops() -> str:
    """Return a sentence about the runs that are not finished."""
    try:
        runs = list(AutomationRun.objects.present().unfinished().order_by("-created_at")[: MOST_NAMED + 1])
        named = [f"run {run_names.short(run.pk)} is at {_percent(run)} %" for run in runs[:MOST_NAMED]]
    except DatabaseError:
        return "unfinished runs continue at the next make up"
    finally:
        connections.close_all()
    if not named:
        return "all runs are finished"
    more = " and others are unfinished" if len(runs) > MOST_NAMED else ""
    they = "it continues" if len(runs) == 1 else "they continue"
    return f"{', '.join(named)}{more}; {they} at the next make up"


def _percent(run: AutomationRun) -> int:
    return int(progress.snapshot(run)["overall"]["percentage"])


def _unseen_nodes() -> str:
    """Say that no worker has sampled this machine yet, if capacity is watched and that is so."""
    try:
        if not watching.is_watched() or any(state.is_online for state in nodes.states()):
            return ""
    except DatabaseError:
        pass
    finally:
        connections.close_all()
    return "no worker has reported yet"


def _what_is_missing(url: str) -> str:
    """Return what ``/readyz`` reports as missing; empty if nothing."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except urllib.error.HTTPError as response:
        checks = json.load(response).get("checks", {})
        return ", ".join(f"{name}: {word}" for name, word in checks.items() if word != "ok")
    except OSError as error:
        return f"the web process does not respond ({error})"
