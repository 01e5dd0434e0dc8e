"""``examples/foreign_project``, on a database of its own: checks, migrations, admin, tasks, a pause."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from django.db import connection

from tests.support.workers import REPOSITORY, Workers, eventually

EXAMPLE = REPOSITORY / "examples" / "foreign_project"
NAME = f"foreign_example_{os.getpid()}"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


class Project:
    """The example as its README has one use it."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.env = {**env, "PYTHONPATH": str(REPOSITORY), "DJANGO_SETTINGS_MODULE": "shop.settings"}
        self.workers = Workers(root, self.env, app="shop", directory=EXAMPLE)

    def manage(self, *arguments: str, succeeds: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=EXAMPLE,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, statement: str) -> str:
        imports = "from pause_manager import holds\nfrom pause_manager.actor import Actor"
        return self.manage("shell", "--no-imports", "-c", f"{imports}\nme = Actor('user:me', 'cli')\n{statement}")


@pytest.fixture
def project(process_env: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    at = connection.settings_dict
    url = f"postgresql://{at['USER']}@{quote(at['HOST'], safe='')}/"
    with psycopg.connect(f"{url}postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {NAME}")
        shop = Project(tmp_path, {**process_env, "DATABASE_URL": f"{url}{NAME}"})
        try:
            yield shop
        finally:
            shop.workers.close()
            server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.mark.slow
def test_the_example_works_alone(project: Project):
    project.manage("check", "--fail-level", "WARNING")
    project.manage("migrate", "--verbosity", "0")
    project.manage("makemigrations", "--check", "--dry-run")
    project.manage("shell", "--no-imports", "-c", "from django.contrib import admin; admin.autodiscover()")
    project.workers.start("shop", "-Q", "celery,control", "-c", "2", "-B", "-s", str(project.workers.root / "beat"))

    assert "3 customers were told; 10 shelves are full" in project.manage("place_orders", "3", "--wait", "60")

    project.manage("place_orders", "4", "--shelves", "75")
    project.shell("holds.place(['fleet'], mode='quiesce', actor=me, reason='upgrade')")
    assert eventually(lambda: "orders.tasks.restock" in project.manage("pause_queue"), 30, every=0.5)
    assert "operator hold on fleet: upgrade" in project.manage("pause_queue")
    assert "[]" in project.shell("from pause_manager.pausable import running; print(running())")
    project.shell("holds.release(['fleet'], actor=me)")
    assert "1 customers were told; 10 shelves are full" in project.manage("place_orders", "1", "--wait", "60")
    assert project.manage("pause_queue").startswith("Nothing waits")


def test_a_project_that_forgot_a_line_is_told(project: Project, tmp_path: Path):
    (tmp_path / "forgetful.py").write_text(
        "from shop.settings import *\nCELERY_BEAT_SCHEDULE = {}\nCELERY_BROKER_URL = None\n"
        "import shop.celery\nshop.celery.app.task_cls = 'celery:Task'\n"
    )
    project.env |= {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "DJANGO_SETTINGS_MODULE": "forgetful"}

    told = project.manage("check", "--fail-level", "WARNING", succeeds=False)

    assert 'app = Celery("shop", task_cls="pause_manager.pausable:PausableTask")' in told
    assert "Beat does not ask for pause_manager.expire_holds, pause_manager.poll" in told
    assert "Celery has no broker URL" in told


def test_a_task_of_another_class_is_named(project: Project, tmp_path: Path):
    (tmp_path / "stray.py").write_text(
        "from shop.settings import *\nfrom celery import Task, shared_task\n"
        "@shared_task(base=Task, name='shop.stray')\ndef stray(): ...\n"
    )
    project.env |= {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "DJANGO_SETTINGS_MODULE": "stray"}

    told = project.manage("check", "--fail-level", "WARNING", succeeds=False)

    assert "shop.stray (its class, Task, is not pausable)" in told
    assert "orders.tasks" not in told
