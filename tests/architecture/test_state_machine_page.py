"""The pages that show state machines follow the tables of transitions; ``test_reference`` holds them to these."""

from __future__ import annotations

from pathlib import Path

from automation.models import Lifecycle
from automation.runs import diagram, transitions
from automation.runs.transitions import Transition

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "state_machine.md"


def test_a_new_transition_would_change_it():
    revive = Transition("revive", (Lifecycle.FAILED,), Lifecycle.RUNNING, "started_at")

    page = diagram.page((*transitions.TABLE, revive))

    assert "failed --> running: revive" in page
    assert page != PAGE.read_text()
