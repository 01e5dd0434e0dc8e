"""What pages say: times with their zone, what is missing for whom, and where to type next."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.views.defaults import server_error

from automation.runs import lifecycle
from backend import metrics
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR, claim, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)

TIME = re.compile(r'<time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00" title="([^"]+)">([^<]+)</time>')
BARE = re.compile(r"\d\d:\d\d(:\d\d)?(?! UTC|:\d\d|\+00)")


def signed_in(*permissions: str, is_staff: bool = False) -> Client:
    user = make_user("vera", make_site("ours"), *permissions)
    User.objects.filter(pk=user.pk).update(is_staff=is_staff, is_superuser=is_staff)
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


def test_every_time_on_a_page_says_its_zone() -> None:
    client = signed_in(VIEW, OPERATE)
    run = make_run(items=5)
    claim(run)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")

    for url in ("/runs/", f"/runs/{run.pk}/"):
        page = client.get(url).content.decode()
        times = TIME.findall(page)
        assert times
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", text) for both in times for text in both)
        assert (
            BARE.findall(re.sub(r'datetime="[^"]+"|before=[^"]+|href="[^"]+"|<pre.*?</pre>', "", page, flags=re.DOTALL))
            == []
        )


def test_the_admin_says_it_too() -> None:
    client = signed_in(is_staff=True)
    make_run()

    page = client.get("/admin/automation/automationrun/").content.decode()

    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)
    assert "a.m." not in page
    assert "p.m." not in page


def test_the_log_over_http_says_it() -> None:
    client = signed_in(VIEW)
    run = make_run()

    lines = client.get(f"/api/v1/automation/logs/?run_id={run.pk}").json()["lines"]

    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ ", line) for line in lines)


def test_a_refusal_names_the_permission_that_is_missing_and_leads_nowhere_that_refuses() -> None:
    viewer = signed_in(VIEW)
    page = viewer.get("/runs/new/").content.decode()
    assert "permission to operate runs" in page
    assert "permission to view runs" not in page
    assert 'href="/runs/">All runs' in page

    nobody = Client()
    nobody.force_login(make_user("nina", None))
    page = nobody.get("/runs/").content.decode()
    assert "permission to view runs" in page
    assert "All runs" not in page
    assert 'href="/fleet/">Fleet</a>' in page


def test_sign_in_leads_to_the_first_page_that_one_may_open() -> None:
    make_user("nina", None)
    make_user("vera", make_site("ours"), VIEW)

    landed = [
        Client().post("/sign-in/", {"username": name, "password": f"secret-of-{name}"})["Location"]
        for name in ("nina", "vera")
    ]

    assert landed == ["/fleet/", "/"]


def test_what_fails_looks_like_the_console_and_says_what_it_means() -> None:
    pages = {
        "This page failed": server_error(RequestFactory().get("/")).content.decode(),
        "Nothing was changed": Client(enforce_csrf_checks=True).post("/sign-in/", {"username": "x"}).content.decode(),
        "does not exist": signed_in(VIEW).get("/nothing/").content.decode(),
    }

    for sentence, page in pages.items():
        assert sentence in page
        assert "console/console.css" in page


def test_after_a_wrong_password_the_next_thing_to_type_is_the_password() -> None:
    focused = re.compile(r'<input id="id_(\w+)"[^>]*autofocus')

    fresh = Client().get("/sign-in/").content.decode()
    again = Client().post("/sign-in/", {"username": "vera", "password": "wrong"}).content.decode()
    without_name = Client().post("/sign-in/", {"username": "", "password": "wrong"}).content.decode()

    assert [focused.findall(page) for page in (fresh, again, without_name)] == [
        ["username"],
        ["password"],
        ["username"],
    ]


@pytest.mark.parametrize("header", [{}, {"X-Forwarded-For": "127.0.0.1"}])
def test_metrics_without_a_token_to_send_say_what_to_set(settings: Any, header: dict[str, str]) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "metrics_token": "", "metrics_networks": ("127.0.0.0/8",)}
    address = "127.0.0.1" if header else "192.0.2.1"

    answer = Client(REMOTE_ADDR=address, headers=header).get("/metrics")

    assert answer.status_code == 401
    assert "METRICS_TOKEN is not set" in answer.content.decode()
    assert "127.0.0.0/8" in answer.content.decode()
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "metrics_token": "t"}
    assert "expected a valid bearer token" in Client(headers=header).get("/metrics").content.decode()
    assert metrics.METRICS_TOKEN


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/runs/", "you need the permission to view runs"),
        ("/pause-queue/", "you need the permission to view pause queue entries"),
        ("/audit/", "you need the permission to view control events"),
        ("/settings/", "you need the permission to operate the fleet"),
        ("/credits/", "you need the permission to view transfers of credits"),
        ("/tasks/", "to view pause queue entries or failed tasks"),
    ],
)
def test_a_page_that_one_may_not_see_names_the_permission(path: str, sentence: str) -> None:
    client = Client()
    client.force_login(User.objects.create_user("nadia"))

    answer = client.get(path)

    assert answer.status_code == 403
    assert sentence in answer.content.decode()
    assert "Ask your administrator" in answer.content.decode()


def test_what_one_may_see_and_not_change_names_the_permission() -> None:
    viewer = make_user("vera", make_site(), VIEW)
    client = Client()
    client.force_login(viewer)

    form, action = client.get("/runs/new/"), client.post("/lanes/", {"do": "freeze", "lane": "x", "reason": "y"})

    assert (form.status_code, action.status_code) == (403, 403)
    assert "you need the permission to operate runs" in form.content.decode()
    assert action.json()["refused"] == (
        "Cannot do that: it takes the permission “Can start, pause, resume and cancel runs” "
        "(automation.operate_automationrun)."
    )
