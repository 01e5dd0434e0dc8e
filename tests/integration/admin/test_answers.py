"""Answering what runs ask in the admin."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from automation.models import AutomationRun, RunQuestion
from automation.pipeline import NeedsInput
from automation.runs import answering
from tests.integration.admin.test_admin import RUNS, act, make_user, operator
from tests.support import asking_pipelines
from tests.support.factories import drain, events, make_run, make_site
from tests.support.pipelines import scripted

assert asking_pipelines
pytestmark = pytest.mark.django_db(transaction=True)


def asks(item, ctx):
    if item["n"] in (2, 3) and ctx.answer is None:
        raise NeedsInput(f"Publish <{item['n']}>?", choices=("yes", "no") if item["n"] == 2 else None)


@pytest.fixture
def run():
    with scripted(asks):
        yield drain(make_run("several", items=4, site=make_site("ours")))


def page_of(client: Client, run: AutomationRun) -> str:
    answer = client.post(reverse(RUNS), {"action": "answer_selected", "_selected_action": [str(run.pk)]})
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.req("S-30")
def test_questions_are_listed_and_answered(run):
    client = make_user("olga", "view_automationrun", "operate_automationrun", "view_payloads", site=run.site)
    first, second = answering.open_questions(run.pk)
    page = page_of(client, run)
    assert "Publish &lt;2&gt;?" in page
    assert "<option>yes</option>" in page

    told = act(client, "answer_selected", run, answered="yes", reason="read", **{f"answer-{first.pk}": "yes"})
    assert told == ["Answered 1 question."]
    told = act(client, "answer_selected", run, answered="yes", **{f"answer-{second.pk}": "blue"})
    assert told == ["Answered 1 question."]

    assert drain(run).lifecycle == "completed"
    (answered, _) = events(run, "answered")
    assert (answered.actor, answered.channel, answered.reason) == ("user:olga", "admin", "read")
    assert act(client, "answer_selected", run) == ["The selected runs ask nothing."]


def test_what_is_wrong_is_said_and_stays_open(run):
    client = operator(run.site)
    first, _ = answering.open_questions(run.pk)

    (told,) = act(client, "answer_selected", run, answered="yes", **{f"answer-{first.pk}": "perhaps"})
    assert "expected one of yes, no, got: 'perhaps'" in told
    assert act(client, "answer_selected", run, answered="yes", **{f"answer-{first.pk}": " "}) == [
        "No question was answered: each answer was empty."
    ]
    assert len(answering.open_questions(run.pk)) == 2


@pytest.mark.req("A-36")
def test_a_question_of_another_account_is_not_answered(run):
    theirs = make_run("numbers", site=make_site("theirs"))
    client = operator(theirs.site)
    first, _ = answering.open_questions(run.pk)

    act(client, "answer_selected", theirs, answered="yes", **{f"answer-{first.pk}": "yes"})

    assert RunQuestion.objects.open().filter(pk=first.pk).exists()
