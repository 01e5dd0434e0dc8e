"""The page that shows the state machine is the one that the table of transitions makes."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from django.core.management import call_command

from automation.models import Lifecycle
from automation.runs import diagram, transitions
from automation.runs.transitions import Transition

PAGE = Path(__file__).parents[2] / "docs" / "state_machine.md"


def test_the_page_is_up_to_date(tmp_path):
    call_command("state_machine", to=tmp_path / "page.md", stdout=StringIO())

    assert PAGE.read_text() == (tmp_path / "page.md").read_text(), "run: python manage.py state_machine"


def test_a_new_transition_would_change_it():
    revive = Transition("revive", (Lifecycle.FAILED,), Lifecycle.RUNNING, "started_at")

    page = diagram.page((*transitions.TABLE, revive))

    assert "failed --> running: revive" in page
    assert page != PAGE.read_text()
