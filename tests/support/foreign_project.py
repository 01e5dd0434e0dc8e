"""A foreign project's workers, its desk, and the ledger that its tasks write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from backend.embedded import die_with_parent
from pause_manager import holds
from pause_manager.actor import Actor
from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import redispatch
from tests.support.workers import REPOSITORY, Workers, eventually

OPERATOR = Actor("user:operator", "cli")
QUEUE = "foreign"


class Desk:
    """The process that sends the foreign project's tasks."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.foreign.client_process"],
                cwd=REPOSITORY,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        assert self._read() == {"ready": True}, log.read_text()

    def ask(self, verb: str, *args: Any, **options: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"verb": verb, "args": args, "options": options}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        assert "answer" in answer, answer.get("error")
        return answer["answer"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class OrdinaryDesk:
    """One desk for all tests of this process that ask for no other: its start takes as long as many a test."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def open(self, env: dict[str, str]) -> Desk:
        if self._desk is None or self._desk.process.poll() is not None:
            directory = Path(os.environ["DATA_DIR"])
            self._desk = Desk({**env, "DATA_DIR": str(directory)}, directory / "desk.log")
        return self._desk

    def close(self) -> None:
        if self._desk is not None:
            self._desk.close()
            self._desk = None


class Foreign:
    """The whole project: workers by name, one desk for each way that its tasks are built."""

    def __init__(self, root: Path, env: dict[str, str], ordinary_desk: OrdinaryDesk | None = None) -> None:
        self.root = root
        self.ordinary_desk = ordinary_desk
        self.env = {
            **env,
            "DATA_DIR": str(root),
            "C_FORCE_ROOT": "1",
            "DJANGO_SETTINGS_MODULE": "tests.foreign.settings",
        }
        self.workers = Workers(root, self.env, app="tests.foreign")
        self._desks: dict[str, Desk] = {}

    def worker(self, name: str = "one", *options: str, **env: str) -> None:
        """A worker of the queue; prefork with two children unless ``options`` say otherwise."""
        self.workers.start(name, "-Q", QUEUE, *(options or ("-c", "2")), env=env)

    def desk(self, **env: str) -> Desk:
        if self.ordinary_desk is not None and not env:
            return self.ordinary_desk.open(self.env)
        key = json.dumps(env)
        if key not in self._desks:
            self._desks[key] = Desk({**self.env, **env}, self.root / f"desk-{len(self._desks)}.log")
        return self._desks[key]

    def send(self, task: str, *args: Any, **options: Any) -> str:
        return str(self.desk().ask("send", task, *args, **options))

    def keep(self, *calls: tuple[Any, ...], seconds: float = 3, **options: Any) -> list[str]:
        """Have worker ``one`` take a message for each call ``(task, *args)``, and hold the fleet before they start.

        Each is due in ``seconds``; until then it is in the worker's hand, whatever is consumed. Returns the ids.
        """
        before = self.notes()
        ids = [self.send(*call, countdown=seconds, **options) for call in calls]
        self.are_taken(ids)
        hold()
        assert waiting(len(ids)), self.workers.said("one")[-3000:]
        assert self.notes() == before, "none has started"
        return ids

    def are_taken(self, ids: list[str]) -> None:
        """Wait until worker ``one`` has taken the messages."""
        assert eventually(lambda: all(f"{sent}] received" in self.workers.said("one") for sent in ids), every=0.02)

    def process_of(self, task_id: str) -> int:
        """The process of a pool that runs the task."""
        (pid,) = [
            request["worker_pid"]
            for requests in self.desk().ask("inspect", "active").values()
            for request in requests
            if request["id"] == task_id
        ]
        return int(pid)

    def ended(self, task_id: str, seconds: float = 30) -> list[Any]:
        """State and value of a task once it has ended, or whatever they are after ``seconds``."""
        told: list[Any] = []

        def has_ended() -> bool:
            told[:] = self.desk().ask("state", task_id)
            return told[0] in ("SUCCESS", "FAILURE", "REVOKED")

        eventually(has_ended, seconds)
        return told

    def notes(self, *kinds: str) -> list[list[Any]]:
        """What the tasks wrote, oldest first."""
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
            lines = [json.loads(line) for line in store.lrange("foreign-ledger", 0, -1)]
        return [line for line in lines if not kinds or line[0] in kinds]

    def close(self) -> None:
        for desk in self._desks.values():
            desk.close()
        self.workers.close()


def hold(scope: str = "fleet", mode: str = "drain") -> None:
    holds.place([scope], mode=mode, actor=OPERATOR, reason="upgrade")


def release(scope: str = "fleet") -> None:
    holds.release([scope], actor=OPERATOR, reason="done")


def waiting(count: int, seconds: float = 30) -> bool:
    """Whether so many messages wait, at once or soon."""
    return bool(eventually(lambda: PauseQueueEntry.objects.waiting().count() == count, seconds))


def reconciled(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """``condition`` once it is true, with the poll coming by meanwhile as beat would send it."""

    def look() -> Any:
        redispatch.reconcile()
        return condition()

    return eventually(look, seconds, every=0.3)
