"""A command that is sent again, with its ``Idempotency-Key``."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.support.api_users import AUTOMATION, RUNS, client_of, make_user
from tests.support.process_death import AT_THE_START, dying_at

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.req("W-47")]

NEW = {"pipeline": "drill", "site": "ours", "params": {"items": 2}}


def create(api, key, body=None):
    return api.post(RUNS, body or NEW, headers={"Idempotency-Key": key})


def count():
    from automation.models import AutomationRun

    return AutomationRun.objects.count()


def records():
    from pause_manager.models import IdempotencyRecord

    return IdempotencyRecord.objects


def test_a_repeat_gets_the_first_answer_and_creates_nothing(api):
    first = create(api, "one")
    api.post(f"{RUNS}{first.data['id']}/cancel/")

    again = create(api, "one", dict(reversed(NEW.items())))

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert count() == 1


@pytest.mark.parametrize("other", ["body", "path", "query"])
def test_the_key_with_another_request_is_refused(api, other):
    run = create(api, "one").data["id"]
    path = {"body": RUNS, "path": f"{RUNS}{run}/pause/", "query": f"{RUNS}?x=1"}[other]

    response = api.post(path, {**NEW, "start": False} if other == "body" else NEW, headers={"Idempotency-Key": "one"})

    assert (response.status_code, response.data["code"]) == (422, "idempotency_conflict")
    assert count() == 1
    assert api.get(f"{RUNS}{run}/").data["status"] == "running"


def test_a_key_belongs_to_its_caller(api, site):
    other = client_of(make_user("olga", site, "view_automationrun", "operate_automationrun"))

    assert create(api, "one").data["id"] != create(other, "one").data["id"]


def test_a_refusal_is_an_outcome_and_is_replayed(api):
    run = create(api, "one").data["id"]
    first = api.post(f"{RUNS}{run}/resume/", headers={"Idempotency-Key": "two"})
    api.post(f"{RUNS}{run}/pause/")

    again = api.post(f"{RUNS}{run}/resume/", headers={"Idempotency-Key": "two"})

    assert (first.status_code, again.status_code, again.json()) == (409, 409, first.json())
    assert api.get(f"{RUNS}{run}/").data["status"] == "paused"


@pytest.mark.parametrize("body", [{"pipeline": "drill"}, {**NEW, "site": "nowhere"}, {**NEW, "params": {"items": 0}}])
def test_a_wrong_request_leaves_the_key_free(api, body):
    assert create(api, "one", body).status_code in {400, 404}
    assert records().count() == 0
    assert create(api, "one").status_code == 201


def test_a_crash_leaves_the_key_free_and_nothing_behind(api):
    api.raise_request_exception = False
    with dying_at(AT_THE_START, RuntimeError):
        broken = create(api, "one")
    api.raise_request_exception = True

    assert (broken.status_code, broken.data["code"]) == (500, "internal_error")
    assert broken.data["request_id"] == broken.headers["X-Request-ID"]
    assert (count(), records().count()) == (0, 0)
    assert create(api, "one").status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "ключ"])
def test_a_key_that_is_none_is_400(api, key):
    response = api.post(RUNS, NEW, HTTP_IDEMPOTENCY_KEY=key)

    assert (response.status_code, response.data["code"]) == (400, "idempotency_key_invalid")


def test_a_repeated_upload_is_known_by_its_content(api):
    def upload(content):
        file = SimpleUploadedFile("words.txt", content)
        given = {"pipeline": "content", "site": "ours", "start": "false", "input": file}
        return api.post(RUNS, given, format="multipart", headers={"Idempotency-Key": "one"})

    first, again, other = upload(b"tea\npot\n"), upload(b"tea\npot\n"), upload(b"tea\ncup\n")

    assert (first.status_code, first.data["total_items"]) == (201, 2)
    assert (again.status_code, again.json()) == (201, first.json())
    assert other.status_code == 422


def test_many_at_once_are_carried_out_once(operator, site):
    from django.db import connection

    barrier = threading.Barrier(8)

    def send(_):
        try:
            barrier.wait(10)
            return create(client_of(operator), "one")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 7
    assert count() == 1


def test_a_repeat_while_the_first_is_still_at_work_gives_up_with_409(api, operator, monkeypatch):
    from django.db import connection, transaction

    from pause_manager.api.http import idempotency
    from pause_manager.models import IdempotencyRecord

    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 1)
    taken, done = threading.Event(), threading.Event()

    def first():
        try:
            with transaction.atomic():
                IdempotencyRecord.objects.create(key="one", actor="user:alice", fingerprint="x")
                taken.set()
                done.wait(20)
                transaction.set_rollback(True)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(first)
        taken.wait(10)
        refused = create(api, "one")
        done.set()

    assert (refused.status_code, refused.data["code"]) == (409, "idempotency_in_progress")
    assert create(api, "one").status_code == 201


def test_every_verb_takes_a_key(api):
    run = create(api, "one").data["id"]
    for number, path in enumerate(("start/", "pause/", "resume/", "cancel/", "retry-failed/")):
        for replayed in (None, "true"):
            response = api.post(f"{RUNS}{run}/{path}", headers={"Idempotency-Key": f"key-{number}"})
            assert response.headers.get("Idempotency-Replayed") == replayed
    for verb in ("pause", "resume", "cancel"):
        made = create(api, f"{verb}-new").data["id"]
        for replayed in (None, "true"):
            response = api.post(f"{AUTOMATION}{verb}/?run_id={made}", headers={"Idempotency-Key": f"{verb}-site"})
            assert response.headers.get("Idempotency-Replayed") == replayed


def test_old_records_are_forgotten_by_the_task(api):
    from datetime import timedelta

    from django.conf import settings
    from django.db.models.functions import Now

    from pause_manager.tasks import forget_outcomes

    create(api, "old")
    records().update(created_at=Now() - timedelta(hours=25))
    create(api, "young")

    forget_outcomes()

    assert [record.key for record in records().all()] == ["young"]
    assert "pause_manager.forget_outcomes" in settings.CELERY_BEAT_SCHEDULE
