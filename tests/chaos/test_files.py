"""Files of a run, by real workers: a frozen one overwrites nothing, and two disks are either shared or refused."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.fleet import Fleet, eventually, fleet_in, ledger_of
from tests.chaos.ledger import Ledger, Note
from tests.support.s3 import s3_server

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(300),
]

KEYWORDS = Path(__file__).resolve().parents[2] / "automation/contrib/content/sample/keywords-400.csv"
LINKS = ("file", "markdown", "html", "article")


class Scribes:
    """A run of the pipeline of that name."""

    def __init__(self, fleet: Fleet, **params: Any) -> None:
        self.fleet = fleet
        self.ledger: Ledger = ledger_of(fleet)
        self.id: str = fleet.ask("create", pipeline="scribes", params={"ledger": str(self.ledger.path), **params})["id"]

    def at_work(self, key: str, pids: set[int]) -> Note:
        """An attempt of one of ``pids`` at the item or hook, or at any item."""

        def found() -> list[Note]:
            now = [note for note in self.ledger.at_work("scribe") if note.pid in pids]
            return [note for note in now if (note.key == "finish") == (key == "finish")]

        notes = eventually(found, 40, every=0.01)
        assert notes, f"nobody of them was at {key}"
        return notes[0]

    def check_files(self) -> dict[int, int]:
        """Every file says who made the output that names it; returns the outputs."""
        ended = eventually(lambda: self.fleet.ask("look", run=self.id)["lifecycle"] == "completed", 60)
        assert ended, self.fleet.ask("reasons", run=self.id)
        payloads = [payload for _, payload in self.fleet.ask("outputs", run=self.id)["outputs"]]
        names = [payload["file"] for payload in payloads]
        files = self.fleet.ask("fetch", run=self.id, names=names)["files"]
        assert files == {payload["file"]: [200, f"{payload['n']} by {payload['by']}"] for payload in payloads}
        return {payload["n"]: payload["by"] for payload in payloads}


@pytest.fixture(params=["directory", "s3"])
def fleet_of_two(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Two workers of one storage."""
    with roomy() as root:
        if request.param == "directory":
            with fleet_in(root) as fleet:
                fleet.start("stages-b")
                yield fleet
        else:
            with s3_server() as server, fleet_in(root, {"STORAGE_URL": server.url}) as fleet:
                fleet.start("stages-b")
                yield fleet


@contextmanager
def roomy() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="sw-files-"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def freeze_beyond_its_lease(run: Scribes, lost: Note) -> None:
    """SIGSTOP, until another process has done the same; then SIGCONT, and time to do what it was about to do."""
    os.kill(lost.pid, signal.SIGSTOP)
    frozen = time.time()
    try:

        def is_done_by_another() -> bool:
            notes = [note for note in run.ledger.notes() if note.item == lost.item and note.at > frozen]
            return any(note.what == "end" for note in notes)

        assert eventually(is_done_by_another, 60), "nobody took its place"
    finally:
        os.kill(lost.pid, signal.SIGCONT)
    time.sleep(3)


def test_a_frozen_worker_overwrites_no_file_when_it_wakes(fleet_of_two: Fleet):
    fleet = fleet_of_two
    run = Scribes(fleet, items=8, seconds=0.8)
    mine = {child.pid for child in fleet.children("stages")}
    lost = run.at_work("an item", mine)

    freeze_beyond_its_lease(run, lost)

    by = run.check_files()
    assert by[int(lost.key)] != lost.pid
    # And the fixed name of `finish`, of another run.
    run = Scribes(fleet, items=1, seconds=1.0)
    everybody = {child.pid for name in ("stages", "stages-b") for child in fleet.children(name)}
    lost = run.at_work("finish", everybody)

    freeze_beyond_its_lease(run, lost)

    run.check_files()
    (status, text) = fleet.ask("fetch", run=run.id, names=["scribe/results.csv"])["files"]["scribe/results.csv"]
    assert status == 200
    assert text.startswith("1 by ")
    assert text != f"1 by {lost.pid}"
    assert fleet.query("SELECT count(*) FROM automation_artifact WHERE is_current AND size IS NULL") == [(0,)]


def content_run(fleet: Fleet, words: int) -> str:
    few = fleet.root / "words.csv"
    few.write_text("".join(KEYWORDS.read_text().splitlines(keepends=True)[: words + 1]))
    fleet.ask("create", params={"ledger": str(fleet.root / "l"), "items": 1}, start=False)  # makes the site
    done = fleet.manage("run_pipeline", "content", "--input", str(few), "--site", "chaos", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = fleet.query("SELECT id FROM automation_automationrun WHERE pipeline = 'content'")
    return str(row[0])


def check_content(fleet: Fleet, run: str) -> int:
    """Every file of every output is reachable by the console's view; how many there are."""
    outputs = fleet.ask("outputs", run=run)["outputs"]
    names = sorted({payload[name] for _, payload in outputs for name in LINKS if name in payload})
    names += ["clusters/clusters.json", "images/index.html", "images/results.csv"]
    files = fleet.ask("fetch", run=run, names=names)["files"]
    missing = [name for name, (status, _) in files.items() if status != 200]
    assert missing == []
    pictures = {payload["file"]: payload["bytes"] for slug, payload in outputs if slug == "images"}
    assert pictures
    assert {name: files[name][1] for name in pictures} == pictures
    return len(names)


def test_a_run_over_two_workers_with_two_disks_is_complete_in_a_storage_that_they_share(report):
    with roomy() as root, s3_server() as server, fleet_in(root, {"STORAGE_URL": server.url}) as fleet:
        fleet.start("stages-b", env={"DATA_DIR": str(root / "other")})
        began = time.monotonic()
        run = content_run(fleet, 100)

        ended = eventually(lambda: fleet.ask("look", run=run)["lifecycle"] == "completed", 110, every=0.5)

        assert ended, fleet.ask("reasons", run=run)
        report("content over two disks", time.monotonic() - began)
        count = check_content(fleet, run)
        assert count > 100
        assert len(fleet.query("SELECT 1 FROM automation_artifact WHERE is_current")) == count
        for name in ("stages", "stages-b"):
            assert "Loop of content" in fleet.said(name), f"{name} had no part in it"
        assert not list((root / "data").rglob("runs"))
        assert not list((root / "other").rglob("runs"))


def test_two_workers_with_two_disks_that_they_do_not_share_are_refused_to_start():
    with roomy() as root, fleet_in(root) as fleet:
        fleet.start("stages-b", env={"DATA_DIR": str(root / "other")})
        told = "SELECT count(DISTINCT files->>'place') FROM pause_manager_fleetworker"
        assert eventually(lambda: fleet.query(told) == [(2,)], 20), fleet.query(told)
        run = content_run(fleet, 12)

        time.sleep(6)  # a reconcile

        assert fleet.ask("look", run=run)["lifecycle"] == "pending"
        (why,) = fleet.ask("reasons", run=run)["reasons"]
        assert why.startswith("It uses files, and the live workers do not share them: ")
        assert str(root / "other") in why
        explained = fleet.manage("explain_run", run)
        assert "do not share" in explained.stdout
        checked = fleet.manage("check", "--database", "default")
        assert "backend.W001" in checked.stdout + checked.stderr
        other = fleet.ask("create", params={"ledger": str(root / "l"), "items": 2, "seconds": 0})["id"]
        assert fleet.ask("look", run=other)["lifecycle"] == "pending", "it leaves a file in finish, too"

        fleet.stop("stages-b")

        ended = eventually(lambda: fleet.ask("look", run=run)["lifecycle"] == "completed", 90, every=0.5)
        assert ended, fleet.ask("reasons", run=run)
        check_content(fleet, run)
