"""The upgrade of ``docs/operations/runbook.md`` with a changed pipeline and a paused run, on a running system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.system import REPOSITORY, System, eventually, launch, unused_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up"), pytest.mark.timeout(300)]

CODE = """
from automation.pipeline import Param, Pipeline, Stage, register

class Read(Stage):
    slug = "read"
    title = "Read"
    checkpoint_interval = 0
    slice_size = 5

    def process(self, item, ctx):
        ctx.sleep(0.1)
        yield {"n": item["n"]}

class Tell(Stage):
    slug = "tell"
    title = "Tell"

    def process(self, item, ctx):
        yield {"n": item["n"], "release": 1}

@register
class Shop(Pipeline):
    slug = "shop"
    title = "Shop"
    stages = (Read, Tell)
"""
NEXT = (
    CODE.replace('slug = "tell"', 'slug = "say"')
    .replace('"release": 1', '"release": ctx.params["release"]')
    .replace("stages = (Read, Tell)", 'stages = (Read, First, Tell)\n    params = (Param("release", int, 2),)')
    .replace("@register", 'class First(Read):\n    slug = "first"\n    title = "First"\n\n@register')
)
MENDED = NEXT.replace('slug = "say"', 'slug = "say"\n    formerly = ("tell",)')


class Releases:
    """A system in a directory of its own, with one app of a customer, that is stopped, changed and started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.app = directory / "apps" / "upgraded_shop"
        self.app.mkdir(parents=True)
        (self.app / "__init__.py").touch()
        self.env: dict[str, Any] = {"SLACKWATER_APPS": "upgraded_shop", "PYTHONPATH": str(self.app.parent)}
        self.env |= {"PYTHONDONTWRITEBYTECODE": "1"}  # two releases may be of one second
        self.env |= {"WATCH_CAPACITY": "0"}  # other tests may be all the load that this machine takes
        self.port = unused_port()

    def install(self, code: str) -> System:
        (self.app / "pipelines.py").write_text(code)
        self.system = launch(self.directory / "data", port=self.port, **self.env)
        assert eventually(self.system.is_ready, 120), self.system.printed
        return self.system

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
        env |= {"DATA_DIR": str(self.directory / "data"), "DJANGO_SETTINGS_MODULE": "backend.settings.dev", **self.env}
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(
            command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False, timeout=120
        )

    def done(self, *words: str) -> str:
        ended = self.manage(*words)
        assert ended.returncode == 0, ended
        return ended.stdout


@pytest.fixture
def releases() -> Iterator[Releases]:
    with tempfile.TemporaryDirectory(prefix="sw-upgrade-") as directory:
        made = Releases(Path(directory))
        yield made
        if made.system.process.poll() is None:
            made.system.stop()


def test_the_runbooks_upgrade_with_a_changed_pipeline_and_a_paused_run(releases: Releases):
    system = releases.install(CODE)
    releases.done("lane", "width", "default", "2")  # the paused run keeps its place
    runs = "automation/runs/"

    def create(count: int) -> str:
        items = [{"n": n} for n in range(count)]
        return str(system.call(runs, {"pipeline": "shop", "site": "default", "items": items})["id"])

    def run(pk: str, path: str = "") -> Any:
        return system.call(f"{runs}{pk}/{path}")

    def completed(pk: str) -> bool:
        return bool(eventually(lambda: run(pk)["status"] == "completed", 90))

    def has_begun(pk: str) -> bool:
        return bool(eventually(lambda: run(pk, "progress/")["stages"][0]["processed_items"] > 3))

    paused = create(40)
    assert has_begun(paused)
    system.call(f"{runs}{paused}/pause/", {"reason": "lunch"})
    working = create(400)
    assert has_begun(working)

    releases.done("fleet", "pause", "--mode", "quiesce", "--reason", "upgrade to 2", "--wait")
    system.stop()
    system = releases.install(NEXT)
    checked = releases.manage("check_runs")

    assert checked.returncode == 1, checked
    for pk in (paused, working):
        assert f"{pk}  Stage tell of pipeline shop is not in this release" in checked.stdout
    assert "2 unfinished runs of 2 use stages" in checked.stdout
    assert "shop/tell (2)" in checked.stdout

    # Resumed all the same: each goes on as far as there is code.
    releases.done("fleet", "resume", "--reason", "2 is in")
    assert eventually(lambda: [one["code"] for one in run(working, "explain/")["reasons"]] == ["code_missing"], 90)
    assert eventually(lambda: "`manage.py check_runs` lists them" in releases.done("fleet", "status"), 20)
    progress = run(working, "progress/")
    assert [(one["title"], one["processed_items"]) for one in progress["stages"]] == [("Read", 400), ("Tell", 0)]
    assert run(paused)["status"] == "paused"
    worked = progress["durations"]["active_seconds"]

    releases.done("fleet", "pause", "--mode", "drain", "--reason", "upgrade to 2.1", "--wait")
    system.stop()
    system = releases.install(MENDED)
    assert "This code has all that 2 unfinished runs need." in releases.done("check_runs")
    releases.done("fleet", "resume", "--reason", "2.1 is in")
    releases.done("resume_run", paused)

    for pk, count in ((working, 400), (paused, 40)):
        assert completed(pk), run(pk, "explain/")
        told = json.loads(releases.done("watch_run", pk, "--json").splitlines()[-1])
        assert told["status"] == "completed"
        assert [stage["processed_items"] for stage in run(pk, "progress/")["stages"]] == [count, count]
        outputs = run(pk, "items/?stage=tell&limit=40")["results"]
        assert [one["payload"] for one in outputs] == [{"n": n, "release": 2} for n in range(40)]
        assert run(pk, "failures/")["results"] == []
    assert run(working, "progress/")["durations"]["active_seconds"] < worked + 20, "its clock stood"
