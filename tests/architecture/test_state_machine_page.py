"""The pages that show state machines are those that the tables of transitions make."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from automation.models import Lifecycle
from automation.runs import diagram, transitions
from automation.runs.transitions import Transition

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["state_machine.md", "pause_queue_states.md"])
def test_the_page_is_up_to_date(tmp_path, name):
    call_command("state_machine", into=tmp_path, stdout=StringIO())

    assert (DOCS / name).read_text() == (tmp_path / name).read_text(), "run: python manage.py state_machine"


def test_a_new_transition_would_change_it():
    revive = Transition("revive", (Lifecycle.FAILED,), Lifecycle.RUNNING, "started_at")

    page = diagram.page((*transitions.TABLE, revive))

    assert "failed --> running: revive" in page
    assert page != (DOCS / "state_machine.md").read_text()
