"""Questions and answers over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api_users import OPERATE, RUNS, client_of, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def script(item: Any, ctx: Any) -> None:
    from automation.pipeline import NeedsInput

    if item["n"] in (2, 7) and ctx.answer is None:
        raise NeedsInput(f"Publish the page of Mr. Miller ({item['n']})?", choices=("yes", "no"))


@pytest.fixture
def run(site):
    """It asks about item 2."""
    from tests.support.factories import drain, make_run
    from tests.support.pipelines import scripted

    with scripted(script):
        yield drain(make_run("scripted", site=site, items=10))


def url_of(run, part=""):
    return f"{RUNS}{run.pk}/{part}"


@pytest.mark.req("S-30")
def test_a_question_is_listed_and_answered(api, run):
    from tests.support.factories import drain, outputs

    shown = api.get(url_of(run)).data
    assert shown["status"] == "paused"
    (question,) = api.get(url_of(run, "questions/?state=open")).data["results"]
    assert question["question"] == "Publish the page of Mr. Miller (2)?"
    assert (question["stage"], question["item"], question["kind"]) == ("scripted", "001", "question")
    assert (question["choices"], question["answer"], question["answered_at"]) == (["yes", "no"], "", None)
    (reason,) = api.get(url_of(run, "explain/")).data["reasons"]
    assert (reason["code"], reason["sentence"]) == (
        "needs_input",
        "This run waits for an answer: scripted asks a question about item 001.",
    )

    answered = api.post(url_of(run, "answer/"), {"answer": "yes", "reason": "I have read it"})

    assert (answered.status_code, answered.data["status"]) == (200, "running")
    assert api.get(url_of(run, "questions/?state=open")).data["results"] == []
    (question,) = api.get(url_of(run, "questions/?state=closed")).data["results"]
    assert (question["answer"], question["answered_by"]) == ("yes", "user:alice")
    (event,) = api.get(url_of(run, "events/?action=answered")).data["results"]
    assert (event["actor"], event["channel"], event["reason"]) == ("user:alice", "api", "I have read it")
    api.post(url_of(drain(run), "answer/"), {"answer": "no"})
    assert len(outputs(drain(run))) == 10


def test_what_is_wrong_with_an_answer_is_said(api, run):
    (question,) = api.get(url_of(run, "questions/")).data["results"]

    wrong = api.post(url_of(run, "answer/"), {"answer": "perhaps"})
    assert (wrong.status_code, wrong.data["code"]) == (400, "answer_invalid")
    assert "expected one of yes, no, got: 'perhaps'" in wrong.data["message"]
    unknown = api.post(url_of(run, "answer/"), {"answer": "yes", "question": question["id"] + 9})
    assert (unknown.status_code, unknown.data["code"]) == (404, "question_not_found")
    scope = api.post(url_of(run, "answer/"), {"answer": "yes", "apply_to": "everything"})
    assert (scope.status_code, "apply_to" in scope.data["fields"]) == (400, True)
    assert api.post(url_of(run, "answer/"), {}).status_code == 400

    assert api.post(url_of(run, "answer/"), {"answer": "yes", "question": question["id"]}).status_code == 200
    again = api.post(url_of(run, "answer/"), {"answer": "no", "question": question["id"]})
    assert (again.status_code, again.data["code"]) == (409, "question_closed")
    nothing = api.post(url_of(run, "answer/"), {"answer": "no"})
    assert (nothing.status_code, nothing.data["code"]) == (409, "nothing_asked")


@pytest.mark.req("W-47")
def test_an_answer_with_the_same_key_is_given_once(api, run):
    key = {"Idempotency-Key": "answer-1"}
    first = api.post(url_of(run, "answer/"), {"answer": "yes"}, headers=key)
    second = api.post(url_of(run, "answer/"), {"answer": "yes"}, headers=key)

    assert (first.status_code, second.status_code, second.headers["Idempotency-Replayed"]) == (200, 200, "true")
    assert len(api.get(url_of(run, "events/?action=answered")).data["results"]) == 1


def test_whoever_may_not_see_items_sees_that_something_is_asked_and_not_what(run, site):
    from automation.models import RunQuestion

    blind = make_user("bo", site, OPERATE)
    blind.user_permissions.add(*_view_only())
    client = client_of(type(blind).objects.get(pk=blind.pk))

    (question,) = client.get(url_of(run, "questions/")).data["results"]

    assert "Miller" not in str(question)
    assert question["question"].startswith("A question about 001.")
    assert "Miller" not in str(client.get(url_of(run, "explain/")).data)
    assert "Miller" not in str(client.get(url_of(run, "events/")).data)
    assert "Miller" in RunQuestion.objects.get().question


def _view_only():
    from django.contrib.auth.models import Permission

    return Permission.objects.filter(codename="view_automationrun")


def test_the_error_of_a_failed_item_is_its_class_for_who_may_not_see_items(site):
    from tests.support import asking_pipelines
    from tests.support.factories import drain, make_run
    from tests.support.pipelines import scripted

    assert asking_pipelines

    def fails(item, ctx):
        raise ValueError(f"Mr. Miller is not {item['n']}")

    with scripted(fails):
        run = drain(make_run("asks-at-the-end", site=site, items=2))
    blind = make_user("bo", site, OPERATE)
    blind.user_permissions.add(*_view_only())
    client = client_of(type(blind).objects.get(pk=blind.pk))

    (question,) = client.get(url_of(run, "questions/")).data["results"]
    assert (question["question"], question["error"]) == ("Item 000 has failed 2 times.", "ValueError")
    assert question["choices"] == ["retry", "skip", "fail"]
    assert client.post(url_of(run, "answer/"), {"answer": "fail"}).data["status"] == "failed"
    assert "Miller" not in str(client.get(url_of(run)).data["failure"])
