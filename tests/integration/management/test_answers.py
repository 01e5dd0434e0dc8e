"""``manage.py answer_run``."""

from __future__ import annotations

import json
import re

import pytest

from automation.pipeline import NeedsInput
from tests.support import asking_pipelines
from tests.support.factories import drain, make_run
from tests.support.pipelines import scripted

assert asking_pipelines
pytestmark = pytest.mark.django_db(transaction=True)


def asks(item, ctx):
    if item["n"] in (2, 3) and ctx.answer is None:
        raise NeedsInput(f"Publish {item['n']}?", choices=("yes", "no"))


@pytest.fixture
def run():
    """It asks about items 2 and 3."""
    with scripted(asks):
        yield drain(make_run("several", items=4))


def test_it_lists_what_a_run_asks_and_answers(shell, run):
    pk = str(run.pk)
    listed = shell("answer_run", pk)
    assert listed.code == 0
    first, second = re.findall(r"^(\d+)  several (\S+), since .*: Publish \d\?\n    yes \| no$", listed.out, re.M)
    assert (first[1], second[1]) == ("001", "002")
    assert [one["id"] for one in json.loads(shell("answer_run", pk, "--json").out)["questions"]] == [
        int(first[0]),
        int(second[0]),
    ]

    several = shell("answer_run", pk, "yes")
    assert (several.code, several.out) == (3, "")
    assert f"it asks 2 questions, name one: {first[0]} (several 001), {second[0]} (several 002)." in several.err
    wrong = shell("answer_run", pk, "perhaps", "--question", first[0])
    assert (wrong.code, "expected one of yes, no, got: 'perhaps'" in wrong.err) == (2, True)
    assert shell("answer_run", pk, "yes", "--question", "999999").code == 4

    answered = shell("answer_run", pk, "yes", "--question", first[0], "--reason", "I have read it")
    assert answered.out == f"Run {pk} is paused. It asks 1 more question.\n"
    assert shell("answer_run", pk, "no").out == f"Run {pk} is running.\n"
    assert shell("answer_run", pk, "no").code == 3
    assert shell("answer_run", pk).out == f"Run {pk} asks nothing.\n"
    assert drain(run).lifecycle == "completed"


def test_one_answer_for_all(shell, run):
    answered = shell("answer_run", str(run.pk), "yes", "--apply-to", "all", "--json")

    assert answered.code == 0
    assert json.loads(answered.out)["open"] == 0
    assert drain(run).lifecycle == "completed"
