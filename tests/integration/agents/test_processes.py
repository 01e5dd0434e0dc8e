"""The agent of ``examples/agent`` as a process of its own, against a web server that is another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automation.models import Lifecycle, WorkSlice
from automation.runs import lifecycle, reconciler
from backend.embedded import die_with_parent
from pause_manager import fleet
from tests.support.agent_calls import make_agent
from tests.support.factories import OPERATOR, expire_leases, make_run, outputs, settle, stage_of
from tests.support.workers import eventually

REPOSITORY = Path(__file__).resolve().parents[3]
WORK = REPOSITORY / "tests/support"

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


class Site:
    """A web server, and agents that ask it for jobs."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self.env = root, env
        self.ledger = root / "ledger"
        self.ledger.touch()
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.port = self.url.rpartition(":")[2]

    def serve(self, settings: str = "agent_server") -> None:
        """Start the server and wait for its first answer."""
        env = {**self.env, "DJANGO_SETTINGS_MODULE": f"tests.support.settings.{settings}"}
        command = ["-m", "uvicorn", "backend.asgi:application", "--port", self.port, "--log-level", "warning"]
        self._start("web", command, {**env, "PYTHONPATH": str(REPOSITORY), "SLACKWATER_APPS": "tests.support"})
        assert eventually(self._answers, 60), self.said("web")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                return True
        except urllib.error.URLError:
            return False

    def agent(self, name: str, token: str, item_seconds: float = 0.0) -> subprocess.Popen[bytes]:
        """Start an agent, with nothing of this process but a path to what it does."""
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(WORK),
            "AGENT_TOKEN": token,
            "AGENT_NAME": name,
            "LEDGER": str(self.ledger),
            "ITEM_SECONDS": str(item_seconds),
        }
        script = str(REPOSITORY / "examples" / "agent" / "agent.py")
        options = ["--url", self.url, "--work", "agent_work:process", "--pause-interval", "1"]
        return self._start(name, [script, *options], env)

    def _start(self, name: str, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("ab") as log:
            self.members[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.root,
                env=env,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(9),
            )
        return self.members[name]

    def said(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(errors="replace")

    def starts(self, name: str = "") -> list[str]:
        """The keys of the items that were begun, by ``name`` or by all."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [key for by, key in lines if not name or by == name]

    def close(self) -> None:
        for member in self.members.values():
            member.kill()
            member.wait(10)


@pytest.fixture
def place(process_env: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, process_env)
    try:
        yield site
    finally:
        site.close()


def until(fact: Callable[[], object], place: Site, seconds: float = 60) -> None:
    assert eventually(fact, seconds), "\n".join(place.said(name)[-2_000:] for name in place.members)


def done(run) -> int:
    return sum(WorkSlice.objects.filter(stage_run=stage_of(run, "remote")).values_list("processed", flat=True))


@pytest.mark.req("W-26")
@pytest.mark.req("W-45")
def test_an_agent_killed_in_the_middle_is_followed_by_another_from_the_cursor(place):
    run = make_run("remote", items=30)
    (_, first), (_, second) = make_agent("first"), make_agent("second")
    place.serve()

    agent = place.agent("first", first, item_seconds=0.3)
    until(lambda: done(run) >= 2, place)
    agent.kill()
    agent.wait(10)
    committed = WorkSlice.objects.get(stage_run=stage_of(run, "remote"), ordinal=0).cursor
    expire_leases(run)
    reconciler.reap()
    place.agent("second", second)
    until(lambda: stage_of(run, "remote").lifecycle == Lifecycle.COMPLETED, place)

    assert min(place.starts("second")) > committed
    assert "HTTP 429" in place.said("second")
    assert len(place.starts("second")) == len(set(place.starts("second")))
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [10 * n for n in range(1, 31)]


@pytest.mark.req("W-21")
@pytest.mark.req("W-24")
@pytest.mark.req("W-39")
@pytest.mark.req("W-40")
def test_an_agent_obeys_pauses_a_lost_server_and_sigterm(place):
    run = make_run("remote", items=200)
    place.serve("agent_server_with_capacity")
    agent = place.agent("gpu", make_agent("gpu")[1], item_seconds=0.2)
    until(lambda: done(run) >= 1, place)

    fleet.pause(mode="quiesce", reason="upgrade", actor=OPERATOR)
    until(lambda: not WorkSlice.objects.leased().exists(), place)
    begun = len(place.starts())
    assert done(run) == begun
    time.sleep(4)
    assert len(place.starts()) == begun
    assert place.said("gpu").count("The fleet is paused") == 1

    web = place.members["web"]
    web.kill()
    web.wait(10)
    fleet.resume(reason="done", actor=OPERATOR)
    until(lambda: "trying again" in place.said("gpu"), place)
    assert len(place.starts()) == begun
    place.serve("agent_server_with_capacity")
    until(lambda: len(place.starts()) > begun + 2, place)

    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    until(lambda: not WorkSlice.objects.leased().exists(), place)
    lifecycle.resume(run.pk, actor=OPERATOR)
    until(lambda: WorkSlice.objects.leased().exists(), place)
    agent.terminate()
    assert agent.wait(30) == 0
    assert not WorkSlice.objects.leased().exists()
    assert done(run) == len(place.starts()) == len(set(place.starts()))
