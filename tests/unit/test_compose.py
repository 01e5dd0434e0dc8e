"""docker-compose.yml, without a Docker engine: valid by the compose specification, and complete.

``tests/data/compose-spec.json`` is the specification's own schema (Apache 2.0), as vendored by check-jsonschema 0.39.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def schema() -> jsonschema.protocols.Validator:
    return jsonschema.Draft202012Validator(json.loads((REPOSITORY / "tests/data/compose-spec.json").read_text()))


def test_the_file_follows_the_specification(compose, schema):
    assert [error.message for error in schema.iter_errors(compose)] == []


def test_the_schema_would_notice_a_mistake(compose, schema):
    wrong = copy.deepcopy(compose)
    wrong["services"]["web"]["comand"] = "typo"

    assert list(schema.iter_errors(wrong))


def test_every_service_is_there_and_watched(compose):
    services = compose["services"]

    assert {"web", "worker", "control", "beat", "postgres", "redis"} <= services.keys()
    for name in ("web", "worker", "control", "beat", "postgres", "redis"):
        assert services[name]["healthcheck"]["test"], name


def test_what_a_service_needs_exists(compose):
    services, volumes = compose["services"], compose["volumes"]

    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            assert how["condition"] != "service_healthy" or "healthcheck" in services[needed], name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in volumes, name


def test_workers_get_time_to_stop_at_the_next_item(compose):
    for name in ("worker", "control", "gpu-0"):
        assert compose["services"][name]["stop_grace_period"] == "60s"
        assert compose["services"][name]["stop_signal"] == "SIGTERM"


def test_each_gpu_worker_has_one_gpu_and_does_not_fork(compose):
    workers = [service for service in compose["services"].values() if service.get("profiles") == ["gpu"]]
    devices = [service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for service in workers]

    assert workers
    assert sorted(map(tuple, devices)) == [(str(number),) for number in range(len(workers))]
    assert all("solo" in service["command"] for service in workers)


def test_the_servers_are_recent_enough(compose):
    postgres = re.fullmatch(r"postgres:(\d+)", compose["services"]["postgres"]["image"])
    redis = re.fullmatch(r"valkey/valkey:(\d+)", compose["services"]["redis"]["image"])

    assert postgres is not None
    assert int(postgres[1]) >= 17
    assert redis is not None
    assert int(redis[1]) >= 8


def test_production_gets_what_it_requires(compose):
    required = re.findall(r'required\("(\w+)"\)', (REPOSITORY / "backend/settings/prod.py").read_text())

    assert required
    assert set(required) <= compose["services"]["web"]["environment"].keys()
