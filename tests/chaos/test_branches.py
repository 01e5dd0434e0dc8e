"""Branches and a join under pause, crash, resume and cancel: every item of every stage is made once."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.chaos.fleet import Fleet, eventually, ledger_of
from tests.chaos.ledger import Ledger

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]

ITEMS = 8

_OUTPUTS = """
    SELECT stage.slug, item.payload::text
      FROM automation_workitem AS item JOIN automation_stagerun AS stage ON stage.id = item.made_by_id
     WHERE stage.run_id = %s AND stage.position >= 0 ORDER BY stage.position, item.key COLLATE "C"
"""
_STAGES = "SELECT slug, lifecycle FROM automation_stagerun WHERE run_id = %s AND position >= 0"


class Run:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.ledger: Ledger = ledger_of(fleet)
        params = {"ledger": str(self.ledger.path), "items": ITEMS}
        self.id: str = fleet.ask("create", pipeline="branches", params=params)["id"]
        self.percentages: list[float] = []

    def ask(self, verb: str) -> dict[str, Any]:
        return self.fleet.ask(verb, run=self.id)

    def is_now(self, status: str) -> bool:
        seen = self.fleet.try_to("look", run=self.id)
        if "overall" in seen:
            self.percentages.append(seen["overall"]["percentage"])
        return seen.get("status") == status

    def wait_for(self, status: str) -> None:
        assert eventually(lambda: self.is_now(status), 90, every=0.1), self.ask("look")

    def wait_until_at(self, stage: str, after: int) -> None:
        assert eventually(lambda: len(self.ledger.starts(stage)) >= after, 60, every=0.01), self.ask("look")

    def kill_at(self, stage: str) -> None:
        at_work = eventually(lambda: self.ledger.at_work(stage), 30, every=0.01)
        assert at_work, self.ask("look")
        os.kill(at_work[0].pid, signal.SIGKILL)

    def stages(self) -> dict[str, str]:
        return dict(self.fleet.query(_STAGES, self.id))

    def outputs(self) -> dict[str, list[tuple[int, list[str]]]]:
        found: dict[str, list[tuple[int, list[str]]]] = {}
        for slug, text in self.fleet.query(_OUTPUTS, self.id):
            made = json.loads(text)
            found.setdefault(slug, []).append((made["n"], made["path"]))
        return found


@pytest.mark.slow
def test_branches_survive_a_kill_in_each_a_pause_in_the_middle_and_a_restart(fleet: Fleet):
    run = Run(fleet)
    run.wait_until_at("left", 2)
    run.kill_at("left")
    run.wait_until_at("right", 2)
    run.kill_at("right")

    run.ask("pause")
    run.wait_for("paused")
    fleet.kill("stages")
    fleet.start("stages")
    paused_at = run.stages()
    run.ask("resume")
    run.wait_until_at("join", 1)
    run.kill_at("join")
    run.wait_for("completed")

    numbers = range(ITEMS)
    assert set(paused_at.values()) <= {"pending", "running", "completed"}
    assert run.outputs() == {
        "left": [(n, ["left"]) for n in numbers],
        "right": [(n, ["right"]) for n in numbers],
        "third": [(n, ["left", "third"]) for n in numbers],
        "join": [(n, ["right", "join"]) for n in numbers] + [(n, ["left", "third", "join"]) for n in numbers],
    }
    assert run.percentages == sorted(run.percentages)
    first = min(note.at for note in run.ledger.starts("join"))
    assert all(note.at < first for stage in ("right", "third") for note in run.ledger.starts(stage))


@pytest.mark.slow
def test_a_cancel_ends_all_branches(fleet: Fleet):
    run = Run(fleet)
    run.wait_until_at("left", 1)
    run.wait_until_at("right", 1)

    run.ask("cancel")
    run.wait_for("cancelled")

    assert run.stages()["join"] == "pending"
    assert not run.ledger.starts("join")
