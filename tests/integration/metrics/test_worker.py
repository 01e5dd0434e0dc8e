"""What a real worker counts reaches a scrape of another process, and StatsD; its log is JSON to the last line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from automation import lifecycle
from tests.factories import OPERATOR, make_site
from tests.integration.metrics.scraping import Scrape
from tests.workers import Workers, eventually

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
        "DJANGO_SETTINGS_MODULE": "tests.integration.metrics.json_settings",
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


@pytest.mark.req("W-41")
def test_the_counts_of_another_process_are_told_and_its_log_is_json(workers, server):
    workers.start("stages", "-Q", "stages,control", "-c", "2")
    run = lifecycle.create("drill", site=make_site(), actor=OPERATOR, params={"items": 40, "seconds": 0.01})

    def told() -> float | None:
        return Scrape.of_the_view().value("slackwater_items_processed_total", pipeline="drill", stage=stage)

    stage = run.stages.order_by("-position")[0].slug
    assert eventually(lambda: told() == 40, 60), (told(), workers.said("stages")[-3_000:])
    packets = [packet.split(":") for packet in received(server)]
    sent = sum(int(value.split("|")[0]) for name, value in packets if name.startswith("slackwater.items_processed."))
    assert sent == 40 * run.stages.filter(position__gte=0).count()
    assert eventually(lambda: run.scope in workers.said("stages"))
    workers.stop("stages")
    # Celery's farewell is no record of a log.
    said = [line for line in workers.said("stages").splitlines() if line and not line.startswith("worker: ")]
    lines = [json.loads(line) for line in said]
    assert len(lines) > 5
    about = [line for line in lines if line.get("run") == str(run.pk)]
    assert {"stage_completed", "complete"} <= {line.get("action") for line in about}
    assert all(line["level"] and line["logger"] and line["at"] for line in lines)
