"""The groups that come with the system: what their people can do in the admin, and how an installation is corrected."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone
from rest_framework.authtoken.models import Token

from automation.models import Membership, Site
from automation.models.work import ItemFailure, WorkItem
from automation.reports import payload_access
from backend import roles
from pause_manager.observability import audit
from tests.support.api_users import AUTOMATION, RUNS, client_of, make_user
from tests.support.factories import OPERATOR, make_run

pytestmark = pytest.mark.django_db

RUN_LIST = "admin:automation_automationrun_changelist"


def staff(name: str, site: Any, role: str) -> Client:
    list(roles.prepare())
    user = make_user(name, site)
    user.groups.add(Group.objects.get(name=role))
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


SEES = {roles.VIEWERS: {RUN_LIST}, roles.OPERATORS: {RUN_LIST}, roles.FLEET_OPERATORS: set()}


@pytest.mark.parametrize("role", SEES)
def test_the_admin_shows_a_role_what_is_its_and_nothing_else(site: Any, role: str) -> None:
    client = staff("ann", site, role)
    get_resolver().url_patterns  # noqa: B018  (registers what the admin shows)
    names = {f"admin:{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry}

    answers = {f"{name}_changelist": client.get(reverse(f"{name}_changelist")).status_code for name in names}
    adds = {client.post(reverse(f"{name}_add"), {}).status_code for name in names}

    assert {name for name, status in answers.items() if status == 200} == SEES[role]
    assert set(answers.values()) <= {200, 403}
    assert adds == {403}


@pytest.mark.parametrize("role", SEES)
def test_nobody_makes_themselves_more_than_they_are(site: Any, role: str) -> None:
    client = staff("ann", site, role)
    ann = User.objects.get(username="ann")
    ann.user_permissions.add(*Permission.objects.filter(codename__in=["change_user", "view_user"]))
    for pk in (ann.pk, User.objects.create_superuser("root").pk):
        client.post(
            reverse("admin:auth_user_change", args=[pk]),
            {"username": "ann", "is_active": "on", "is_staff": "on", "is_superuser": "on", "groups": [1]},
        )
        client.post(
            reverse("admin:auth_user_password_change", args=[pk]),
            {"password1": "Nobody-knows-this-1", "password2": "Nobody-knows-this-1", "usable_password": "true"},
        )

    ann.refresh_from_db()
    assert not ann.is_superuser
    assert [group.name for group in ann.groups.all()] == [role]
    assert not User.objects.get(username="root").check_password("Nobody-knows-this-1")


def test_an_operator_of_an_earlier_release_is_corrected_once_and_told(
    transactional_db: None, settings: Any, tmp_path: Any, capsys: Any
) -> None:
    settings.DATA_DIR = tmp_path
    group = Group.objects.create(name=roles.OPERATORS)
    group.permissions.set(Permission.objects.all())
    had = group.permissions.count()
    assert had > 100

    call_command("prepare")
    said = capsys.readouterr().out
    call_command("prepare")

    assert f"The group Operators had {had} permissions; it now has these 3: automation.view_automationrun" in said
    assert "permissions; it has" not in capsys.readouterr().out
    for name, wanted in roles.ROLES.items():
        found = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
        assert {".".join(one) for one in found} == set(wanted)


def test_who_may_not_see_payloads_sees_them_nowhere(site: Any) -> None:
    run = make_run(site=site, items=3)
    secret = "zebra-crossing"
    WorkItem.objects.filter(made_by__run=run).update(payload={"title": secret, "n": secret})
    stage_run = run.stages.get(position=0)
    error = f"Traceback (most recent call last):\n  File x\nKeyError: '{secret}'"
    ItemFailure.objects.create(stage_run=stage_run, key="000", payload={"title": secret}, error=error, attempts=1)
    default_storage.save(f"runs/{run.pk}/few/{secret}.md", ContentFile(b"# it"))
    stage_run.loop_failures, stage_run.loop_error = 1, f"KeyError: {secret}"
    stage_run.save()
    blind, seeing = make_user("bob", site), make_user("ann", site, "view_automationrun")
    blind.user_permissions.add(*Permission.objects.filter(codename__in=["view_automationrun", "view_stagerun"]))
    blind.user_permissions.add(*Permission.objects.filter(codename__in=["view_workitem", "view_itemfailure"]))
    User.objects.update(is_staff=True)
    ended = make_run(site=site)
    ended.lifecycle, ended.finished_at, ended.lane_seat_at = "failed", timezone.now(), None
    ended.failure = f"few: a loop failed: KeyError: {secret}"
    ended.save()
    for action, reason in EVENTS.items():
        audit.record(action, scope=run.scope, actor=OPERATOR, reason=reason.format(secret))
    inner = ("", "items/?stage=input", "failures/", "events/", "progress/", "explain/", "stages/")
    urls = [f"{RUNS}{run.pk}/{part}" for part in inner]
    urls += [f"{AUTOMATION}current_processing/?run_id={run.pk}", f"{AUTOMATION}logs/?run_id={run.pk}"]
    urls += [f"{RUNS}{ended.pk}/", RUNS, f"{AUTOMATION}history/", f"/api/v1/audit/?scope={run.scope}"]
    urls += [f"/api/v1/audit/export/?type={kind}&scope={run.scope}" for kind in ("csv", "jsonl")]
    pages = [
        reverse("console:run", args=[ended.pk]),
        reverse("console:run", args=[run.pk]),
        "/runs/",
        reverse("console:file", args=[run.pk, f"few/{secret}.md"]),
    ]
    pages += [
        reverse("admin:automation_stagerun_change", args=[stage_run.pk]),
        reverse("admin:automation_workitem_changelist") + f"?made_by__id__exact={stage_run.pk}",
        reverse("admin:automation_itemfailure_changelist") + f"?stage_run__id__exact={stage_run.pk}",
        reverse("admin:automation_automationrun_change", args=[run.pk]),
        reverse("admin:automation_automationrun_change", args=[ended.pk]),
    ]
    found: dict[str, set[str]] = {"bob": set(), "ann": set()}
    for user in (blind, seeing):
        client = Client()
        client.force_login(User.objects.get(pk=user.pk))
        for url in [*urls, *pages]:
            answer = client.get(url) if url in pages else client_of(User.objects.get(pk=user.pk)).get(url)
            shown = answer.getvalue().decode().replace(url, "")
            if secret in shown or (answer.status_code == 200 and "/files/" in url):
                found[user.username].add(url)

    assert found["bob"] == set()
    assert {*urls[1:4], urls[5], *urls[8:], *pages[:4]} <= found["ann"]
    failed = reverse(RUN_LIST) + f"?failure__contains={secret}"
    for user, status in ((blind, 400), (seeing, 200)):
        client.force_login(User.objects.get(pk=user.pk))
        assert client.get(failed).status_code == status
    failure = client_of(blind).get(f"{RUNS}{run.pk}/failures/").json()["results"][0]
    assert (failure["error"], failure["payload"]) == ("KeyError", None)
    assert client_of(blind).get(f"{RUNS}{ended.pk}/").json()["failure"] == "few: a loop failed: KeyError."
    told = client_of(blind).get(f"{RUNS}{run.pk}/events/?limit=100").json()["results"]
    assert {each["action"]: each["reason"] for each in told if each["action"] in TOLD} == TOLD


EVENTS = {
    "fail": "few: prepare: failed 3 times: {}",
    "loop_failed": "few: a loop failed, time 1: KeyError: {0}: {0}",
    "item_waits": "few: 000 waits 5 s, for time 1: {}",
    "item_given_up": "few: item 000 was given up: {}, 3 times",
    "job_failed": "few: {}",
    "worker_lost": "few: a loop failed (KeyError: {0}); {0} (1); its slice continues from the last checkpoint",
    "out_of_memory": "A loop of few ran out of memory: MemoryError: {}",
}
TOLD = {
    "fail": "few: prepare.",
    "loop_failed": "few: a loop failed, time 1: KeyError.",
    "item_waits": "few: 000 waits 5 s, for time 1.",
    "item_given_up": "few: item 000 was given up.",
    "job_failed": "few.",
    "worker_lost": "few: a loop failed (KeyError); its slice continues from the last checkpoint",
    "out_of_memory": "A loop of few ran out of memory: MemoryError.",
}


@pytest.mark.parametrize(
    ("error", "known"),
    [
        ("ValueError: bad\numbrella", "ValueError"),
        ("ValueError: bad\numbrella: dry", "ValueError"),
        ("app.errors.TooLong: umbrella", "app.errors.TooLong"),
        ("umbrella", "error"),
        ("Umbrella: no page", "error"),
        ("no page for umbrella", "error"),
        ("", "error"),
    ],
)
def test_of_an_error_s_text_no_word_is_taken_for_its_class(error: str, known: str) -> None:
    assert payload_access.error_class(error) == known


@pytest.mark.parametrize("how", ["autocomplete", "list", "form", "inline"])
def test_an_account_s_admin_finds_nobody_of_other_accounts(site: Any, their_site: Any, how: str) -> None:
    boss, other = make_user("boss", site), make_user("zebra", their_site)
    make_user("mate", site)
    wanted = ["view_user", "change_account", "view_account", "add_membership", "change_membership", "view_membership"]
    boss.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    User.objects.filter(pk=boss.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=boss.pk))
    account = site.account
    if how == "autocomplete":
        given = {"term": "", "app_label": "automation", "model_name": "membership", "field_name": "user"}
        answer = client.get(reverse("admin:autocomplete"), given)
        assert "mate" in answer.content.decode()
    elif how == "list":
        answer = client.get(reverse("admin:auth_user_changelist"))
        assert "mate" in answer.content.decode()
    elif how == "form":
        answer = client.post(reverse("admin:automation_membership_add"), {"account": account.pk, "user": other.pk})
    else:
        formset = "membership_set"
        answer = client.post(
            reverse("admin:automation_account_change", args=[account.pk]),
            {
                "name": account.name,
                f"{formset}-TOTAL_FORMS": "1",
                f"{formset}-INITIAL_FORMS": "0",
                f"{formset}-0-account": account.pk,
                f"{formset}-0-user": other.pk,
            },
        )

    assert answer.status_code == 200
    assert "zebra" not in answer.content.decode()
    assert not Membership.objects.filter(account=account, user=other).exists()


def test_tokens_are_for_superusers_alone(site: Any) -> None:
    ann = make_user("ann", site)
    ann.user_permissions.set(Permission.objects.filter(content_type__app_label="authtoken"))
    User.objects.filter(pk=ann.pk).update(is_staff=True)
    key = Token.objects.create(user=User.objects.create_superuser("root")).key
    client = Client()
    client.force_login(User.objects.get(pk=ann.pk))

    answer = client.get(reverse("admin:authtoken_tokenproxy_changelist"))

    assert answer.status_code == 403
    assert not re.search(key, answer.content.decode())


def test_the_guide_s_way_to_let_somebody_in_works(transactional_db: None, settings: Any, tmp_path: Any) -> None:
    settings.DATA_DIR = tmp_path
    call_command("prepare")
    guide = (settings.BASE_DIR / "docs" / "howto" / "access.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)

    exec(snippet, {})

    vera = User.objects.get(username="vera")
    make_run(site=Site.objects.get(slug="default"))
    assert Client().login(username="vera", password="a long password of hers")
    assert len(client_of(vera).get(RUNS).json()["results"]) == 1
    assert client_of(vera).post(RUNS, {}).status_code == 403
    for name, permissions in roles.ROLES.items():
        assert name in guide
        assert all(permission in guide for permission in permissions)
