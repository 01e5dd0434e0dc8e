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

REPOSITORY = Path(__file__).resolve().parents[3]


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
            assert volume.startswith("${APPS_DIR:-./apps}:") or volume.split(":")[0] in volumes, name


def test_workers_get_time_to_stop_at_the_next_item(compose):
    for name in ("worker", "gpu-0"):
        assert compose["services"][name]["stop_grace_period"] == "${WORKER_STOP_GRACE:-15m}"
    assert compose["services"]["control"]["stop_grace_period"] == "60s"
    for name in ("worker", "control", "gpu-0"):
        assert compose["services"][name]["stop_signal"] == "SIGTERM"


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: service for name, service in compose["services"].items() if "build" in service}


FIXED = {"DATA_DIR": "where the volumes are", "PYTHONPATH": "where apps are mounted"}
INTERNAL = {"SLACKWATER_ROOT_PID", "STATIC_ROOT", "DEBUG"}
"""Read by the settings and of no use to who deploys: set by ``up``, by the image, and for work on the code."""


def documented() -> set[str]:
    """Every variable of the settings reference."""
    table = (REPOSITORY / "docs/reference/settings.md").read_text().split("## Environment")[1]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in first_cells for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", cell)}


def read_by_the_settings() -> set[str]:
    reads = re.compile(r'env\.\w+\(\s*"([A-Z][A-Z0-9_]+)"')
    files = (REPOSITORY / "backend/settings").glob("*.py")
    return {name for path in files for name in reads.findall(path.read_text())}


def test_every_variable_that_is_read_is_documented():
    assert len(documented()) > 30
    assert read_by_the_settings() - documented() == set()


def test_every_documented_variable_reaches_every_process(compose):
    for name, service in ours(compose).items():
        assert service["env_file"] == ".env", name
        for variable, value in service["environment"].items():
            assert variable in FIXED or f"${{{variable}:" in value, f"{variable} of .env does nothing in {name}"
    # Whoever gives the same defaults to all of them has them in one place.
    assert len({json.dumps(service["environment"], sort_keys=True) for service in ours(compose).values()}) == 1


def test_it_is_secure_unless_it_is_declared_otherwise(compose):
    web = compose["services"]["web"]

    assert web["environment"]["SECURE_COOKIES"] == "${SECURE_COOKIES:-true}"
    assert web["environment"]["SECURE_SSL_REDIRECT"] == "${SECURE_SSL_REDIRECT:-${BEHIND_TLS_PROXY:-false}}"
    assert web["ports"] == ["${LISTEN:-127.0.0.1}:${PORT:-8000}:8000"]
    for name, service in ours(compose).items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in ("postgres", "redis"):
        assert "ports" not in compose["services"][name]


def test_only_prepare_has_the_credentials(compose):
    having = [name for name, one in compose["services"].items() if "credentials" in str(one.get("volumes"))]

    assert having == ["prepare"]
    command = compose["services"]["prepare"]["command"]
    assert command[-2:] == ["--credentials", "/credentials/credentials.json"]
    assert "credentials:/credentials" in compose["services"]["prepare"]["volumes"]
    assert "/credentials" in (REPOSITORY / "Dockerfile").read_text()


def test_apps_of_ones_own_are_found_by_every_process(compose):
    for name, service in ours(compose).items():
        assert "${APPS_DIR:-./apps}:/apps:ro" in service["volumes"], name
        assert "/apps" in service["environment"]["PYTHONPATH"].split(":"), name


def test_the_recipe_for_an_image_of_ones_own_is_one(compose):
    """`FROM slackwater`: what it copies is on the path, and the compose file takes the image."""
    told = (REPOSITORY / "docs/operations/deployment.md").read_text()

    assert "FROM slackwater\n" in told
    assert re.search(r"^COPY \S+ /app/\S+$", told, re.MULTILINE)
    assert "WORKDIR /app" in (REPOSITORY / "Dockerfile").read_text()
    assert {service["image"] for service in ours(compose).values()} == {"${SLACKWATER_IMAGE:-slackwater}"}
    assert "SLACKWATER_IMAGE" in told


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
