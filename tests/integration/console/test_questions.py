"""What a run asks, on its page, and the answer from there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from automation.errors import NeedsInput
from automation.models import AutomationRun, RunQuestion, Site
from automation.runs import answering
from tests.support import asking_pipelines
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import drain, events, make_run, make_site
from tests.support.pipelines import scripted

assert asking_pipelines
pytestmark = pytest.mark.django_db(transaction=True)


def asks(item, ctx):
    if item["n"] == 2 and ctx.answer is None:
        raise NeedsInput("Publish the page of <Mr. Miller>?", choices=("yes", "no"))
    if item["n"] == 3 and ctx.answer is None:
        raise NeedsInput("Which colour?")


@pytest.fixture
def site() -> Site:
    return make_site("ours")


@pytest.fixture
def run(site: Site) -> Iterator[AutomationRun]:
    with scripted(asks):
        yield drain(make_run("several", site=site, items=4))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def card_of(page: str) -> str:
    return re.sub(r"\s+", " ", page)


def test_the_page_shows_each_question_and_a_form_for_it(run, site):
    client = signed_in(make_user("olga", site, VIEW, OPERATE))
    page = card_of(client.get(f"/runs/{run.pk}/").content.decode())

    assert "It waits for an answer" in page
    assert "Publish the page of &lt;Mr. Miller&gt;?" in page
    assert re.search(r'<button type="submit" name="answer" value="yes" ?>yes</button>', page)
    assert "Which colour?" in page
    assert '<input id="answer-' in page
    assert "the run itself (" in page


@pytest.mark.req("S-30")
def test_an_answer_is_given_from_the_page(run, site):
    client = signed_in(make_user("olga", site, VIEW, OPERATE))
    first, second = answering.open_questions(run.pk)

    wrong = client.post(f"/runs/{run.pk}/answer/", {"question": first.pk, "answer": "perhaps"})
    assert wrong.status_code == 409
    assert "expected one of yes, no, got: &#x27;perhaps&#x27;" in wrong.content.decode()
    for body in ({}, {"question": "x", "answer": "yes"}, {"question": first.pk, "answer": "yes", "apply_to": "me"}):
        assert client.post(f"/runs/{run.pk}/answer/", body).status_code == 409

    answered = client.post(f"/runs/{run.pk}/answer/", {"question": first.pk, "answer": "yes"})
    assert answered.status_code == 200
    assert "Miller" not in answered.content.decode()
    assert "Which colour?" in answered.content.decode()
    client.post(f"/runs/{run.pk}/answer/", {"question": second.pk, "answer": "blue"})

    assert drain(run).lifecycle == "completed"
    assert [(event.actor, event.channel) for event in events(run, "answered")] == [("user:olga", "console")] * 2


def test_a_viewer_sees_it_and_cannot_answer(run, site):
    client = signed_in(make_user("vera", site, VIEW))
    page = client.get(f"/runs/{run.pk}/").content.decode()

    assert "Which colour?" in page
    assert "/answer/" not in page
    assert client.post(f"/runs/{run.pk}/answer/", {"answer": "yes"}).status_code == 403


def test_without_the_permission_to_see_items_the_words_are_hidden(run, site):
    user = make_user("bo", site, OPERATE)
    user.user_permissions.add(Permission.objects.get(codename="view_automationrun"))
    page = signed_in(User.objects.get(pk=user.pk)).get(f"/runs/{run.pk}/").content.decode()

    assert "Miller" not in page
    assert "A question about 001." in page


def test_a_failed_item_offers_what_becomes_of_it(site):
    def fails(item, ctx):
        raise ValueError(f"no such page {item['n']}")

    with scripted(fails):
        run = drain(make_run("asks-at-the-end", site=site, items=3))
        client = signed_in(make_user("olga", site, VIEW, OPERATE))
        page = card_of(client.get(f"/runs/{run.pk}/").content.decode())
        assert "ValueError: no such page 1" in page
        assert all(words in page for words in ("Try again", "Skip it", "Let the run fail", "all items with this error"))

        (question,) = answering.open_questions(run.pk)
        body = {"question": question.pk, "answer": "skip", "apply_to": "same_error"}
        assert client.post(f"/runs/{run.pk}/answer/", body).status_code == 200
        run = drain(run)

    assert run.failed_items == 3
    assert RunQuestion.objects.count() == 1
