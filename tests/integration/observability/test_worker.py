"""What a real worker counts reaches a scrape of another process, and StatsD; its log is JSON to the last line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app

from automation.models import AutomationRun, Lifecycle
from automation.runs import creation
from pause_manager import fleet
from pause_manager.nodes import members
from tests.support.factories import OPERATOR, make_site
from tests.support.scrape import Scrape
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load")]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        yield bound


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, server: socket.socket) -> Iterator[Workers]:
    env = {
        **process_env,
        "DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "tests.support.settings.json_logs",
        "STATSD_URL": f"udp://127.0.0.1:{server.getsockname()[1]}",
    }
    running = Workers(tmp_path, env)
    try:
        yield running
    finally:
        running.close()


def received(server: socket.socket) -> Iterator[str]:
    while True:
        try:
            yield server.recv(1_000).decode()
        except BlockingIOError:
            return


@pytest.mark.slow
@pytest.mark.req("W-41")
def test_the_counts_of_another_process_are_told_and_its_log_is_json(workers, server):
    workers.start("stages", "-Q", "stages,control", "-c", "2")
    run = creation.create("drill", site=make_site(), actor=OPERATOR, params={"items": 40, "seconds": 0.01})

    def told() -> float | None:
        return Scrape.of_the_view().value("slackwater_items_processed_total", pipeline="drill", stage=stage)

    stage = run.stages.order_by("-position")[0].slug
    assert eventually(lambda: told() == 40, 60), (told(), workers.said("stages")[-3_000:])
    packets = [packet.split(":") for packet in received(server)]
    sent = sum(int(value.split("|")[0]) for name, value in packets if name.startswith("slackwater.items_processed."))
    assert sent == 40 * run.stages.filter(position__gte=0).count()
    assert eventually(lambda: run.scope in workers.said("stages"))
    workers.stop("stages")
    lines = lines_of(workers, "stages")
    assert len(lines) > 5
    about = [line for line in lines if line.get("run") == str(run.pk)]
    assert {"stage_completed", "complete"} <= {line.get("action") for line in about}
    assert all(line["level"] and line["logger"] and line["at"] for line in lines)


def lines_of(workers: Workers, name: str) -> list[dict[str, Any]]:
    # Celery's farewell is no record of a log.
    return [json.loads(line) for line in workers.said(name).splitlines() if line and not line.startswith("worker: ")]


def obeyed(version: int) -> bool:
    known = members.of_version(version)
    return known.total == known.acknowledged == 1


@pytest.mark.slow
@pytest.mark.req("W-41")
def test_every_line_of_a_worker_says_the_version_of_the_fleet_switch(workers):
    def work(tag: str) -> AutomationRun:
        """A run, a pausable task, another's task and the control tasks, once through."""
        run = creation.create("drill", site=site, actor=OPERATOR, params={"items": 20, "seconds": 0.01})
        for task in ("tests.say", "tests.say_plainly"):
            current_app.send_task(task, args=[tag], queue="stages")
        for task in ("automation.reconcile", "pause_manager.poll", "pause_manager.expire_holds"):
            current_app.send_task(task, queue="control")
        finished = AutomationRun.objects.filter(pk=run.pk, lifecycle=Lifecycle.COMPLETED)
        assert eventually(finished.exists, 60), workers.said("stages")[-3_000:]
        assert eventually(lambda: {f"pausable: {tag}", f"plain: {tag}"} <= said()), said()
        return run

    def said() -> set[str]:
        return {line["message"] for line in lines_of(workers, "stages")}

    site = make_site()
    options = ["-Q", "stages,control", "-c", "2", "--include", "tests.support.logging_tasks"]
    workers.start("stages", *options)
    first = fleet.state().version
    assert eventually(lambda: obeyed(first))

    before = work("before")
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    second = fleet.resume(reason="done", actor=OPERATOR, force=True).version
    assert eventually(lambda: obeyed(second))
    after = work("after")
    workers.stop("stages")

    lines = lines_of(workers, "stages")
    ready = next(n for n, line in enumerate(lines) if line["message"].endswith(" ready."))
    assert [line for line in lines[ready:] if "version" not in line] == []
    of_logger = {line["logger"] for line in lines[ready:]}
    assert {
        "tests.saying",
        "automation.tasks",
        "pause_manager.audit",
        "pause_manager.worker.hold_enforcer",
    } <= of_logger
    assert {"celery.app.trace", "celery.worker.strategy"} <= of_logger, "the pool's and the main process's"
    for tag, run, version in (("before", before, first), ("after", after, second)):
        about = [line for line in lines if line.get("run") == str(run.pk) or line["message"].endswith(f": {tag}")]
        assert len(about) >= 5
        assert {line["version"] for line in about} == {version}, tag
