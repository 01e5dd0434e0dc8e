"""The shipped docker-compose.yml on one machine: its worker services, as it says, in containers of their own."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import psutil
import pytest
import yaml

from pause_manager import holds, nodes
from pause_manager.messaging import broker
from pause_manager.models import FleetWorker, WorkerNode
from tests.integration.nodes.test_sampling import send, the_node
from tests.support import containers
from tests.support.factories import OPERATOR
from tests.support.workers import REPOSITORY, Workers, eventually

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("load"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(containers.why_not()), reason=f"no namespaces here: {containers.why_not()}"),
]


@pytest.fixture
def services() -> dict[str, Any]:
    """The services of the file that are Celery workers, those of its profiles among them."""
    file = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return {name: one for name, one in file["services"].items() if "worker" in one.get("command", [])}


def start(workers: Workers, service: dict[str, Any]) -> str:
    """A container of the service, under the name that an engine would make up; answers that name."""
    host = secrets.token_hex(6)
    command = service["command"]
    options = command[command.index("worker") + 1 :]
    env = {"DJANGO_SETTINGS_MODULE": "tests.support.settings.watching"}
    # What belongs to the machine; the servers and secrets are those of the test.
    env["SLACKWATER_NODE"] = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", service["environment"]["SLACKWATER_NODE"])
    workers.start(host, *options, env=env, within=containers.within(host))
    return host


def labels() -> list[str]:
    state = the_node()
    return [] if state is None else sorted(one.label for one in state.view.containers)


def test_its_containers_are_one_node_and_keep_a_hold_when_they_are_made_anew(
    workers: Workers, services: dict[str, Any]
):
    assert set(services) == {"worker", "control", "gpu-0", "gpu-1"}
    hosts = {name: start(workers, service) for name, service in services.items()}

    assert eventually(lambda: labels() == sorted(hosts.values()), 30)
    state = the_node()
    assert state is not None
    assert list(WorkerNode.objects.values_list("name", flat=True)) == ["docker"]
    assert set(FleetWorker.objects.values_list("node", flat=True)) == {"docker"}
    assert state.view.cores <= (psutil.cpu_count() or 1)
    assert state.view.memory_mib <= psutil.virtual_memory().total >> 20

    holds.place(["node:docker"], actor=OPERATOR, reason="new memory")
    for name in ("worker", "gpu-0", "gpu-1"):
        workers.stop(hosts.pop(name))
    hosts["worker"] = start(workers, services["worker"])
    send("automation.stage_loop_of_nothing")
    time.sleep(3)
    assert broker.queue_depth("stages") == 1, "the machine is held, whatever its container is called now"
    assert eventually(lambda: labels() == sorted(hosts.values()))
    assert [one.view.name for one in nodes.states()] == ["docker"]
