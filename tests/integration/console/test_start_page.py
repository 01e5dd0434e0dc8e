"""The form that starts a run: when it starts, from what, how long it may take, and again as an earlier one."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from automation.models import AutomationRun, RunDependency, Site
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import drain, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/runs/new/"
DRILL = {"pipeline": "drill", "site": "ours", "param-items": "3", "param-seconds": "0"}


@pytest.fixture
def site() -> Site:
    return make_site("ours")


@pytest.fixture
def client(site: Site) -> Client:
    client = Client()
    client.force_login(make_user("olga", site, VIEW, OPERATE))
    return client


def test_priority_timeout_and_dependencies_are_those_of_the_form(client: Client, site: Site) -> None:
    first = make_run(site=site)
    rules = {"priority": "1", "timeout": "1.5", "timeout_unit": "hours", "after": str(first.pk)[:8]}

    answer = client.post(URL, DRILL | rules)

    assert answer.status_code == 302, answer.content.decode()
    run = AutomationRun.objects.exclude(pk=first.pk).get()
    assert (run.priority, run.timeout_seconds, run.lifecycle) == (1, 5_400, "pending")
    assert RunDependency.objects.get(run=run).after_id == first.pk


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"priority": "9"}, "expected a priority of 1 (first) to 5, got: 9."),
        ({"timeout": "-3"}, "expected as timeout more than 0 minutes, got: -3."),
        ({"timeout": "nan"}, "expected as timeout more than 0 minutes, got: nan."),
        ({"after": "zz"}, "Cannot find run"),
        ({"pacing": "batch_size"}, "expected [STAGE.]NAME=VALUE, got: 'batch_size'."),
        ({"pacing": "batch_size=0"}, "Cannot use batch_size: expected a whole number from 1 to 10,000"),
        ({"after": "deadbeef"}, "Cannot find run deadbeef: there is no such run."),
    ],
)
def test_a_wrong_rule_is_refused_and_the_form_keeps_what_was_typed(
    client: Client, site: Site, wrong: dict[str, str], sentence: str
) -> None:
    answer = client.post(URL, DRILL | {"param-items": "77"} | wrong)

    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page.replace("&#x27;", "'")
    assert 'value="77"' in page
    assert not AutomationRun.objects.exists()


def test_the_pacing_of_the_form_is_the_run_s_and_comes_again(client: Client, site: Site) -> None:
    answer = client.post(URL, DRILL | {"pacing": "batch_size=2, batch_delay_seconds=30"})

    run = AutomationRun.objects.get()
    assert (answer.status_code, run.pacing) == (302, {"batch_size": 2, "batch_delay_seconds": 30})
    again = client.get(URL, {"again": str(run.pk)}).content.decode()
    assert 'name="pacing" value="batch_size=2 batch_delay_seconds=30"' in again


def test_nobody_waits_for_a_run_of_another_account(client: Client, site: Site) -> None:
    theirs = make_run(site=make_site("theirs"))

    answer = client.post(URL, DRILL | {"after": str(theirs.pk)})

    assert answer.status_code == 422
    assert "there is no such run" in answer.content.decode()


def test_one_site_needs_no_choice_and_labels_are_words(client: Client, site: Site) -> None:
    page = client.get(URL, {"pipeline": "content"}).content.decode()

    assert '<input type="hidden" name="site" value="ours">' in page
    assert "Address of the text provider" in page
    assert "Base URL" not in page
    Site.objects.create(account=site.account, slug="second", name="Second")
    assert '<select id="site"' in client.get(URL).content.decode()


def test_the_sample_is_previewed_and_started(client: Client, site: Site) -> None:
    given = {"pipeline": "content", "site": "ours", "sample": "1"}
    page = client.post(reverse("console:start-preview"), given).content.decode()
    assert "394 items will be read" in page

    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen is not None
    assert client.post(URL, {**given, "seen": seen[1]}).status_code == 302
    assert AutomationRun.objects.get().total_items == 394


def test_a_run_is_started_again_with_its_input_and_parameters(client: Client, site: Site) -> None:
    old = drain(make_run("numbers", site=site, items=4, priority=2))

    page = client.get(URL, {"again": str(old.pk)}).content.decode()
    assert "Use the 4 items of run" in page
    assert '<option value="2" selected>' in page
    given = {"pipeline": "numbers", "site": "ours", "same": str(old.pk)}
    preview = client.post(reverse("console:start-preview"), given).content.decode()
    assert "4 items will be read" in preview
    assert "of working time, by the last 1 run." in preview
    assert client.post(URL, given).status_code == 302

    new = AutomationRun.objects.exclude(pk=old.pk).get()
    assert new.total_items == 4


def test_the_input_of_a_run_is_for_those_who_see_it(client: Client, site: Site) -> None:
    theirs = make_run("numbers", site=make_site("theirs"), items=4)
    ours = make_run("numbers", site=site, items=4)
    blind = Client()
    user = make_user("bo", site, VIEW, OPERATE)
    user.user_permissions.remove(*user.user_permissions.filter(codename="view_payloads"))
    blind.force_login(user)

    for who, run in ((client, theirs), (blind, ours)):
        answer = who.post(URL, {"pipeline": "numbers", "site": "ours", "same": str(run.pk)})
        assert answer.status_code == 422
        assert "Cannot use the input of run" in answer.content.decode()
    assert "Use the 4 items" not in blind.get(URL, {"again": str(ours.pk)}).content.decode()
    assert AutomationRun.objects.count() == 2
