"""One list of the codes of reasons: of what is given, of the API, of the reference and of the console."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from backend.reference import errors
from pause_manager.api.reasons import ReasonFiguresSerializer
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.reasons import Reason, ReasonCode

# With the tests of the architecture, which read the same source.
pytestmark = pytest.mark.xdist_group("source")

ROOT = Path(__file__).parents[3]


def test_every_kind_of_hold_and_every_problem_of_an_entry_is_a_code():
    for kind in Hold.Kind.values:
        assert ReasonCode(kind).meaning
    for problem in PauseQueueEntry.Problem.values:
        assert ReasonCode(problem).meaning


def test_a_reason_has_no_other_code():
    reason = Reason("lane", "It waits.", None, "system", "it ends")

    assert (reason.code, reason.meaning) == (ReasonCode.LANE, ReasonCode.LANE.meaning)
    assert type(reason.as_dict()["code"]) is str
    with pytest.raises(ValueError, match="line"):
        Reason("line", "It waits.", None, "system", "it ends")


def test_the_api_and_the_page_of_errors_are_made_from_the_list():
    field: Any = ReasonFiguresSerializer().fields["code"]
    assert list(field.choices) == [code.value for code in ReasonCode]

    page = errors.page()
    told = [page.index(f"| `{code}` | {code.meaning} |") for code in ReasonCode]
    assert told == sorted(told)


def test_no_code_is_left_that_nothing_gives():
    given = {*Hold.Kind.values, *PauseQueueEntry.Problem.values}
    for room in ("automation", "pause_manager"):
        for path in (ROOT / room).rglob("*.py"):
            given |= {name.lower() for name in re.findall(r"ReasonCode\.([A-Z_]+)", path.read_text())}

    assert {code.value for code in ReasonCode} <= given
