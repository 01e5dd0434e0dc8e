"""A stage that cannot be made fails each loop at once; that must not turn into a storm of messages."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.fleet import Fleet, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


@pytest.mark.slow
def test_a_stage_that_cannot_be_made_does_not_spin(fleet: Fleet, report):
    sign = Path(fleet.env["CHAOS_STUCK"])
    sign.touch()
    try:
        run = fleet.ask("create", pipeline="reluctant", params={})["id"]
        assert eventually(lambda: "it is stuck" in fleet.said("stages"), 20)
        before = fleet.said("stages").count("A loop of stuck")
        time.sleep(4)
        failures = fleet.said("stages").count("A loop of stuck") - before
    finally:
        sign.unlink()

    report("failing loops in 4 s", failures)
    assert failures <= 5
    assert eventually(lambda: fleet.ask("look", run=run)["status"] == "completed", 30)
