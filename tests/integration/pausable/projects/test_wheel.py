"""The wheel, in an environment that has nothing else: the example passes its checks there and runs a task."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.pausable.projects.test_example import EXAMPLE, Project, project  # noqa: F401  (a fixture)
from tests.matrix import built
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600), pytest.mark.slow]

ENGINE_SETTINGS = """
SECRET_KEY = "for a test"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "automation", "automation.contrib.drill", "pause_manager"
]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "unused"}}
REDIS_URL = "redis://localhost:1/0"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> str:
    """The interpreter of a new environment with the wheel and what it requires."""
    return environment_of(tmp_path_factory.mktemp("alone"), str(wheel))


def environment_of(directory: Path, requirement: str) -> str:
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    inside = str(directory / "bin" / "python")
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", requirement]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return inside


@pytest.fixture
def manage(python: str, project: Project, tmp_path: Path) -> Iterator[list[str]]:  # noqa: F811
    """What starts a command of the example, with a worker of it at work."""
    command = [python, "-P", "manage.py"]
    environment = {name: value for name, value in project.env.items() if name != "PYTHONPATH"}
    project.env = environment | {"PYTHONPATH": str(EXAMPLE)}
    subprocess.run([*command, "migrate", "--verbosity", "0"], cwd=EXAMPLE, env=project.env, check=True)
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [python, "-P", "-m", "celery", "-A", "shop", "worker", "-l", "INFO", "-Q", "celery,control", "-c", "2"],
            cwd=EXAMPLE,
            env=project.env | {"C_FORCE_ROOT": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: " ready." in (tmp_path / "worker.log").read_text(), 60)
        yield command
    finally:
        worker.terminate()
        worker.wait(60)


def test_the_wheel_brings_all_that_the_example_needs(manage: list[str], project: Project):  # noqa: F811
    def said(*arguments: str) -> str:
        done = subprocess.run(
            [*manage, *arguments], cwd=EXAMPLE, env=project.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    said("check", "--fail-level", "WARNING")
    where = said("shell", "--no-imports", "-c", "import pause_manager, sys; print(pause_manager.__file__, sys.prefix)")
    assert where.split()[0].startswith(where.split()[1]), "it is the wheel's"
    assert "2 customers were told" in said("place_orders", "2", "--wait", "60")
    assert said("pause_queue").startswith("Nothing waits")
    assert "pause_manager" in said("showmigrations")


def test_the_wheel_alone_brings_nothing_of_the_web(python: str):
    found = "import importlib.util as u; print([m for m in {modules} if u.find_spec(m)])"
    absent = ["rest_framework", "drf_spectacular", "prometheus_client", "django_stubs_ext", "openpyxl", "pynvml"]

    told = subprocess.run([python, "-c", found.format(modules=absent)], check=True, capture_output=True, text=True)

    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("extra", ["engine", "api,engine,metrics"])
def test_the_engine_starts_with_its_extra_alone(wheel: Path, tmp_path: Path, extra: str):
    python = environment_of(tmp_path / "venv", f"{wheel}[{extra}]")
    (tmp_path / "engine_settings.py").write_text(ENGINE_SETTINGS)
    environment = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "engine_settings", "PYTHONPATH": str(tmp_path)}

    done = subprocess.run(
        [python, "-P", "-m", "django", "try_pipeline", "drill", "--param", "items=3"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3" in done.stdout
