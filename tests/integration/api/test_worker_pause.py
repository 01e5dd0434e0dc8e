"""``/api/system/worker-pause`` as its callers meet it."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tests.integration.api.test_schema import check, schema
from tests.support.api_users import client_of, make_user

__all__ = ["schema"]

URL = "/api/system/worker-pause"
PAUSE = {"action": "pause", "mode": "drain", "reason": "upgrade", "confirmation": "pause all workers"}
RESUME = {"action": "resume", "reason": "done"}
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def boss(site):
    return client_of(make_user("olga", site, "operate_fleet"))


@pytest.fixture
def onlooker(site):
    return client_of(make_user("walter", site))


@pytest.fixture
def run(site):
    from tests.support.factories import leased, make_run

    made = make_run("few", items=5, site=site)
    leased(made)
    return made


def holds():
    from pause_manager.models import Hold

    return Hold.objects.active().count()


def told(*actions):
    from pause_manager.models import ControlEvent

    return list(ControlEvent.objects.filter(scope="fleet", action__in=actions).order_by("pk"))


@pytest.mark.req("W-05", "W-17")
@pytest.mark.req("W-06")
@pytest.mark.req("W-48")
def test_pause_change_resume_answer_with_the_whole_picture(boss, run, schema):
    user_id = str(make_user_id("olga"))
    before = boss.get(URL).json()
    assert before["system"]["workersPaused"] is False

    response = boss.post(URL, PAUSE, headers={"X-Request-ID": "seven"})

    check(schema, URL, "post", response)
    paused = response.json()
    assert {name: paused["system"][name] for name in ("workersPaused", "mode", "reason", "requestedByUserId")} == {
        "workersPaused": True,
        "mode": "drain",
        "reason": "upgrade",
        "requestedByUserId": user_id,
    }
    assert paused["system"]["version"] == before["system"]["version"] + 1
    assert (paused["metrics"]["queued"], paused["metrics"]["running"], paused["metrics"]["isDrained"]) == (4, 1, False)
    assert paused["metrics"]["blockers"][0]["run"] == str(run.pk)
    available = {command["name"]: command["available"] for command in paused["commands"]}
    assert available == {"pause": True, "resume": False, "forceResume": True}
    assert all(command["impact"] and command["rollbackAction"] for command in paused["commands"])
    [newest] = paused["audit"]["latest"]
    assert (newest["action"], newest["actor"], newest["requestId"]) == ("pause", "user:olga", "seven")

    boss.post(URL, {**PAUSE, "mode": "quiesce", "reason": "hurry"})
    resumed = boss.post(URL, {**RESUME, "forceResume": True, "confirmation": "yes"}).json()
    assert resumed["system"]["workersPaused"] is False
    assert [change["action"] for change in resumed["audit"]["latest"]] == ["resume", "pause", "pause"]
    assert resumed["audit"]["latest"][0]["forced"] is True
    assert len(boss.get(f"{URL}?latest=2").json()["audit"]["latest"]) == 2
    check(schema, URL, "get", boss.get(URL))


def make_user_id(name):
    from django.contrib.auth.models import User

    return User.objects.get(username=name).pk


@pytest.mark.req("W-04")
@pytest.mark.req("W-08")
@pytest.mark.req("W-09")
def test_what_does_not_apply_is_409_changes_nothing_and_stays_on_record(boss, run, schema):
    refused = [boss.post(URL, RESUME)]
    boss.post(URL, PAUSE)
    version = boss.get(URL).json()["system"]["version"]
    refused += [boss.post(URL, PAUSE), boss.post(URL, RESUME, headers={"Idempotency-Key": "late"})]

    assert [answer.status_code for answer in refused] == [409] * 3
    assert [answer.json()["code"] for answer in refused] == [
        "worker_pause_not_paused",
        "worker_pause_unchanged",
        "worker_pause_not_drained",
    ]
    for answer in refused:
        check(schema, URL, "post", answer)
    assert refused[2].json()["metrics"]["running"] == 1
    assert boss.get(URL).json()["system"]["version"] == version
    assert len(told("pause_refused", "resume_refused")) == 3, "with a key as without"


@pytest.mark.req("W-07")
@pytest.mark.req("W-38")
@pytest.mark.req("W-48")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {**PAUSE, "action": "stop"},
        {**PAUSE, "mode": None},
        {**PAUSE, "mode": "halt"},
        {**PAUSE, "reason": "  "},
        {**PAUSE, "confirmation": ""},
        {**PAUSE, "reasn": "typo"},
        {**PAUSE, "mode": "quiesce", "deadlineSeconds": 60},
        {**PAUSE, "deadlineSeconds": 0},
        {**RESUME, "reason": ""},
        {**RESUME, "forceResume": True},
        [1, 2],
    ],
)
def test_a_wrong_request_says_what_was_expected(boss, schema, body):
    response = boss.post(URL, body)

    assert response.status_code == 400
    assert response.json()["code"] == "worker_pause_invalid_request"
    assert response.json()["message"]
    check(schema, URL, "post", response)
    assert not holds()


def test_a_body_that_is_no_json_is_a_wrong_request(boss):
    response = boss.generic("POST", URL, "{", content_type="application/json")

    assert (response.status_code, response.json()["code"]) == (400, "worker_pause_invalid_request")


@pytest.mark.req("W-36")
def test_who_may_do_what(boss, onlooker, run, schema):
    anonymous = client_of(None)

    assert anonymous.get(URL).status_code == anonymous.post(URL, PAUSE).status_code == 401
    refused = onlooker.post(URL, PAUSE)
    assert (refused.status_code, refused.json()["code"]) == (403, "worker_pause_forbidden")
    check(schema, URL, "post", refused)
    assert onlooker.get(URL).json()["metrics"]["blockers"] is None, "other people's runs are none of their business"
    check(schema, URL, "get", onlooker.get(URL))
    assert not holds()


@pytest.mark.req("W-36")
def test_who_cannot_be_named_cannot_act():
    class Nameless:
        is_authenticated = is_active = True
        pk = 7

        def has_perm(self, permission):
            return True

        def get_username(self):
            return ""

    client = APIClient()
    client.force_authenticate(Nameless())  # type: ignore[arg-type]

    refused = client.post(URL, PAUSE, format="json")

    assert (refused.status_code, refused.json()["code"]) == (403, "worker_pause_actor_missing")
    assert not holds()


@pytest.mark.req("W-37")
def test_without_authentication_everything_is_done_in_the_default_name(site, settings):
    make_user("duty", site)
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "open_to": "duty"}

    told_ = client_of(None).post(URL, PAUSE).json()

    assert told_["system"]["requestedByUserId"] == str(make_user_id("duty"))
    assert told_["audit"]["latest"][0]["actor"] == "user:duty"


@pytest.mark.req("W-47")
def test_the_key_may_be_in_the_body(boss):
    body = {**PAUSE, "idempotencyKey": "one"}
    first = boss.post(URL, body)

    again = boss.post(URL, body)
    other = boss.post(URL, {**body, "reason": "another"})
    two_keys = boss.post(URL, body, headers={"Idempotency-Key": "two"})

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert two_keys.status_code == 400
    assert len(told("hold_placed", "hold_altered", "pause_refused")) == 1


@pytest.mark.req("W-38")
def test_what_nobody_expected_is_500_with_a_code_and_changes_nothing(boss):
    from django.db import connection

    client = APIClient(raise_request_exception=False)
    client.handler._force_user = boss.handler._force_user  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE pause_manager_controlevent RENAME TO hidden")
    try:
        failed = client.post(URL, PAUSE, format="json")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE hidden RENAME TO pause_manager_controlevent")

    assert (failed.status_code, failed.json()["code"]) == (500, "worker_pause_apply_failed")
    assert not holds()
