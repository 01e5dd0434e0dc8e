"""The example of ``docs/howto/pipelines.md`` works word by word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.files.storage import default_storage

from automation.models import AutomationRun
from automation.models.work import WorkItem
from tests.support.factories import make_site
from tests.support.workers import REPOSITORY, Workers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

DOCUMENT = (REPOSITORY / "docs" / "howto" / "pipelines.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_example_of_the_document_runs_from_its_file(process_env: dict[str, str], tmp_path: Path) -> None:
    code, table = blocks("python")[0], blocks("csv")[0]
    commands = next(block for block in blocks("sh") if block.startswith("manage.py run_pipeline")).splitlines()
    path = re.match(r"# (\S+)", code)
    assert path
    (tmp_path / path.group(1)).parent.mkdir()
    (tmp_path / path.group(1)).write_text(code)
    (tmp_path / "products.csv").write_text(table)
    env = {**process_env, "SLACKWATER_APPS": "shop", "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    make_site("default")
    workers = Workers(tmp_path, env)
    workers.start("both", "-Q", "stages,control", "-P", "threads", "-c", "2")
    said = []
    try:
        for command in commands:
            manage, *words = shlex.split(command)
            assert manage == "manage.py"
            done = subprocess.run(
                [sys.executable, str(REPOSITORY / "manage.py"), *words],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            said.append(done.stdout)
    finally:
        workers.close()

    assert "sku='A1', name='Anchor'" in said[0]
    assert "2 items. Nothing was created." in said[0]
    run = AutomationRun.objects.get()
    assert (run.total_items, run.failed_items, run.lifecycle) == (2, 0, "completed")
    described = WorkItem.objects.filter(made_by__run=run, made_by__slug="describe").order_by("key")
    assert list(described.values_list("payload", flat=True)) == [
        {"sku": "A1", "text": "Anchor: warm"},
        {"sku": "A2", "text": "Chair: warm"},
    ]
    (sheet,) = WorkItem.objects.filter(made_by__run=run, made_by__slug="sheets").values_list("payload", flat=True)
    with default_storage.open(sheet["file"]) as file:
        assert file.read() == b"Anchor: warm\nChair: warm"
