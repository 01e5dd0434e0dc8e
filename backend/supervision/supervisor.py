"""Keeps the processes of one machine running: starts them, restarts them with back-off, and stops them cleanly.

Honcho prints the lines; its manager is not used, because it stops everything when one process ends and signals whole
process groups, which would kill Celery's children before their worker can stop them in order.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from backend.embedded import EmbeddedError, Server, die_with_parent
from backend.supervision.readiness import Readiness
from pause_manager import times

GRACE_SECONDS = 40.0
"""Longer than the 30 s that Celery's pool waits for the results of its children, since it misses one now and then."""
ORPHAN_SECONDS = 5.0
FOREGROUND_SECONDS = 3.0
LONGEST_BACKOFF_SECONDS = 15.0
LONGEST_AFTER_READY_SECONDS = 0.5
SLOW_START_SECONDS = 15.0
HEALTHY_AFTER_SECONDS = 30.0
TICK_SECONDS = 0.05
LOG_BYTES = 5_000_000
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? UTC ")
"""The start of a child's line that has a timestamp of its own."""


class Backoff:
    """Waits 0, 1, 2, 4, … up to 15 seconds between restarts; starts over after half a minute without a failure.

    A process that had become ready waits half a second at most: something outside has ended it.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.due = 0.0

    def failed(self, *, ran_seconds: float, was_ready: bool = False) -> float:
        """Record a failure; returns the seconds until the next attempt."""
        self.failures = 1 if ran_seconds >= HEALTHY_AFTER_SECONDS else self.failures + 1
        longest = LONGEST_AFTER_READY_SECONDS if was_ready else LONGEST_BACKOFF_SECONDS
        wait = min(2.0 ** (self.failures - 2), longest) if self.failures > 1 else 0.0
        self.due = time.monotonic() + wait
        return wait


@dataclass
class Child:
    """One supervised process: the leader of its own session, whose output is printed and logged."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    output: Callable[[Child, bytes], None]
    log: logging.Handler
    colour: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started: float = field(default=0.0, init=False)
    backoff: Backoff = field(default_factory=Backoff, init=False)
    readiness: Readiness = field(default_factory=Readiness, init=False)
    _reader: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env={**self.env, **self.readiness.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        self.started = time.monotonic()
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.output(self, line)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        """Send SIGTERM to the leader only; it stops its own children in order."""
        if self.process is not None and self.is_alive():
            self.process.terminate()

    def close(self) -> None:
        """Read the last lines and close the log."""
        if self.process is not None:
            self.process.wait()
        if self._reader is not None:
            self._reader.join(timeout=2)
        self.log.close()
        self.readiness.close()

    def end_group(self, signum: int) -> bool:
        """Signal what is left of the group; False if nothing is."""
        if self.process is None:
            return False
        try:
            os.killpg(self.process.pid, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True


class Supervisor:
    """Runs servers and children until SIGINT or SIGTERM, and restarts those that end before."""

    def __init__(self, servers: Sequence[Server], log_dir: Path) -> None:
        self.servers = servers
        self.children: list[Child] = []
        self.foreground: subprocess.Popen[bytes] | None = None
        self._log_dir = log_dir
        self._printer = Printer(sys.stdout, time_format=times.FORMAT)
        self._print_lock = threading.Lock()
        self._colours = get_colours()
        self._stopping = 0
        self._orphans: list[tuple[float, int]] = []
        self._server_backoff = {server.name: Backoff() for server in servers}

    def add(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Add a process, which :meth:`run` starts."""
        self._printer.width = max(self._printer.width, len(name), len("system"))
        log = _log_file(self._log_dir / f"{name}.log")
        self.children.append(Child(name, command, env, self._output, log, next(self._colours)))

    def run(
        self,
        what_is_missing: Callable[[], str],
        when_ready: Callable[[], None],
        what_stops: Callable[[], str] = lambda: "",
    ) -> None:
        """Start everything, call ``when_ready`` once nothing is missing, and return when everything has stopped.

        ``what_stops`` is called at the beginning of the stop and completes the line that reports it.
        """
        self.install_signals()
        waiting_for_ready, complaint_due = True, time.monotonic() + SLOW_START_SECONDS
        for child in self.children if not self.stopping else ():
            child.start()
        while not self.stopping:
            self._restart_children()
            self._restart_servers()
            self._end_orphans()
            if waiting_for_ready and not (missing := what_is_missing()):
                waiting_for_ready = False
                when_ready()
            elif waiting_for_ready and time.monotonic() > complaint_due:
                self.say(f"not ready yet: {missing}")
                complaint_due = time.monotonic() + SLOW_START_SECONDS
            self._watch_foreground()
            time.sleep(TICK_SECONDS)
        self._stop_children(what_stops())

    def install_signals(self) -> None:
        """Stop on SIGINT and SIGTERM; by force on the second one."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)

    @property
    def stopping(self) -> bool:
        """True once a signal to stop has come."""
        return self._stopping > 0

    def say(self, text: str, *, secret: bool = False) -> None:
        """Print a line of the supervisor's own, and log it unless it is ``secret``."""
        if not secret:
            with (self._log_dir / "system.log").open("a") as log:
                log.write(f"{times.written(_now())} {text}\n")
        self._print("system", text, None)

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._stopping += 1

    def _restart_children(self) -> None:
        for child in self.children:
            process = child.process
            if process is None:
                if time.monotonic() >= child.backoff.due:
                    child.start()
                    self.say(f"{child.name} restarted")
            elif process.poll() is not None:
                ran = time.monotonic() - child.started
                wait = child.backoff.failed(ran_seconds=ran, was_ready=child.readiness.was_notified())
                when = f"in {wait:g} s" if wait else "now"
                self.say(f"{child.name} ended with {_ending(process.returncode)}; restarting it {when}")
                if child.end_group(signal.SIGTERM):
                    self._orphans.append((time.monotonic() + ORPHAN_SECONDS, process.pid))
                child.process = None

    def _restart_servers(self) -> None:
        for server in self.servers:
            backoff = self._server_backoff[server.name]
            if server.is_alive() or time.monotonic() < backoff.due:
                continue
            self.say(f"{server.name} has stopped; restarting it")
            try:
                server.start()
                backoff.failures = 0
            except EmbeddedError as error:
                wait = backoff.failed(ran_seconds=0)
                self.say(f"{error} Next attempt in {wait:.0f} s.")

    def _watch_foreground(self) -> None:
        if self.foreground is not None and self.foreground.poll() is not None:
            self.say(
                f"the run ended with exit code {self.foreground.returncode}; the system is still up, Ctrl-C stops it"
            )
            self.foreground = None

    def _end_orphans(self) -> None:
        """Kill what a killed worker left behind, if SIGTERM was not enough."""
        for due, group in [entry for entry in self._orphans if time.monotonic() >= entry[0]]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
            self._orphans.remove((due, group))

    def _stop_children(self, what_stops: str) -> None:
        if self.foreground is not None and self.foreground.poll() is None:
            self.foreground.send_signal(signal.SIGINT)  # it restores the terminal
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.foreground.wait(FOREGROUND_SECONDS)
        self.say(f"stopping everything: {what_stops}" if what_stops else "stopping everything")
        for child in self.children:
            child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while any(child.is_alive() for child in self.children):
            if time.monotonic() > deadline or self._stopping > 1:
                self.say("stopping by force")
                break
            time.sleep(0.05)
        for child in self.children:
            child.end_group(signal.SIGKILL)
        self._orphans = [(0.0, group) for _, group in self._orphans]
        self._end_orphans()
        for child in self.children:
            child.close()

    def _output(self, child: Child, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            stamp = STAMP.match(text)
            is_stamped = stamp is not None or text.startswith("{")
            child.log.handle(logging.makeLogRecord({"msg": text if is_stamped else f"{times.written(_now())} {text}"}))
            if self.foreground is None:
                self._print(child.name, text[stamp.end() :] if stamp else text, child.colour)

    def _print(self, name: str, text: str, colour: str | None) -> None:
        with self._print_lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._printer.write(Message(type="line", data=text, time=_now(), name=name, colour=colour))


def _now() -> datetime:
    return datetime.now(UTC)


def _ending(returncode: int) -> str:
    return signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"


def _log_file(path: Path) -> logging.Handler:
    return RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2, delay=True)
