"""The page of tasks through Django's client: what failed, who sees what of it, and how it runs again."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pause_manager import fleet
from pause_manager.console.tasks import failed
from pause_manager.messaging import envelope
from pause_manager.models import ControlEvent, FailedTask, PauseQueueEntry
from pause_manager.pausable import failed_tasks
from tests.support.factories import OPERATOR

pytestmark = pytest.mark.django_db(transaction=True)

TASKS = "/tasks/"
SEE, RETRY = "view_failedtask", "change_failedtask"


def client_of(*permissions: str) -> Client:
    user = User.objects.create_user(f"tess-{User.objects.count()}")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def fail(*args: Any, name: str = "shop.sell", error: str = "card 4111 refused", **kwargs: Any) -> FailedTask:
    """A failed task as a worker keeps it."""
    told: dict[str, Any] = {
        "headers": {"id": "17", "task": name, "lang": "py", "argsrepr": repr(args), "kwargsrepr": repr(kwargs)},
        "properties": {"delivery_mode": 2},
        "exchange": "",
        "routing_key": "shop",
        "queue": "shop",
        "content_type": "application/json",
        "content_encoding": "utf-8",
    }
    row = FailedTask(
        task_id="17",
        task_name=name,
        queue="shop",
        worker="shop@one",
        turn=uuid4(),
        error_class="ValueError",
        error=error,
        traceback="Traceback: line 7",
        args_text=repr(list(args)),
        kwargs_text=repr(kwargs),
        needs={"cpu": 0},
        message=told,
        envelope=envelope.dump(told),
        body=json.dumps([args, kwargs, {"chain": None}]).encode(),
    )
    failed_tasks.write([row])
    return FailedTask.objects.latest("id")


def page(client: Client, query: str = "") -> str:
    answer = client.get(TASKS + query)
    assert answer.status_code == 200
    return answer.content.decode()


def act(client: Client, do: str, *rows: FailedTask, **fields: str) -> tuple[int, dict[str, Any]]:
    answer = client.post(TASKS, {"do": do, "failed": [row.pk for row in rows], **fields})
    return answer.status_code, json.loads(answer.content) if answer.status_code in (200, 409) else {}


@pytest.fixture
def held() -> None:
    """What is sent waits, so that it can be looked at."""
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)


def test_what_failed_is_listed_with_arguments_for_who_may_see_them() -> None:
    fail("17", size=3)

    html = page(client_of(SEE))

    assert "ValueError: card 4111 refused" in html
    assert "[&#x27;17&#x27;], {&#x27;size&#x27;: 3}" in html
    assert "Traceback: line 7" in html
    assert "Retry" not in html


def test_who_may_not_see_content_is_told_the_class_of_the_error_alone() -> None:
    fail("secret", token="t0ken")

    html = page(client_of("view_pausequeueentry", RETRY))

    assert ">ValueError</span>" in html
    assert [word for word in ("4111", "secret", "t0ken", "line 7", "Change and retry") if word in html] == []
    assert "Retry…" in html
    assert "they need the permission to view failed tasks" in html


def test_it_is_retried_as_it_was_by_who_may_without_seeing_it(held: None) -> None:
    row = fail(17, size=3)
    client = client_of("view_pausequeueentry", RETRY)

    status, told = act(client, "retry", row, reason="mended")

    assert (status, told["done"]) == (200, "Retried: 1. It runs as soon as nothing holds.")
    entry = PauseQueueEntry.objects.get()
    assert (entry.ref, entry.task_name, entry.queue) == ("task:17", "shop.sell", "shop")
    assert json.loads(bytes(entry.body or b"")) == [[17], {"size": 3}, {"chain": None}]
    assert "retried" in page(client)


def test_it_is_retried_once(held: None) -> None:
    row = fail(17)
    client = client_of(SEE, RETRY)
    act(client, "retry", row)

    status, told = act(client, "retry", row)

    assert status == 409
    assert "has retried it already" in told["refused"]
    assert PauseQueueEntry.objects.count() == 1


def test_of_several_those_that_cannot_be_retried_are_named(held: None) -> None:
    done, other = fail(1), fail(2)
    client = client_of(SEE, RETRY)
    act(client, "retry", done)

    status, told = act(client, "retry", done, other)

    assert (status, told["done"]) == (200, "Retried: 1. It runs as soon as nothing holds.")
    assert [str(done.pk) in problem for problem in told["problems"]] == [True]


def test_it_is_retried_with_other_arguments(held: None) -> None:
    row = fail(17, size=3)
    client = client_of(SEE, RETRY)
    assert re.search(r'name="args"[^>]*>\[17\]</textarea>', page(client))

    status, _ = act(client, "retry_changed", row, args='[18, "blue"]', kwargs='{"size": 4}', reason="typo")

    entry = PauseQueueEntry.objects.get()
    assert status == 200
    assert json.loads(bytes(entry.body or b"")) == [[18, "blue"], {"size": 4}, {"chain": None}]
    assert envelope.load(bytes(entry.envelope or b""))["headers"]["argsrepr"] == "[18, 'blue']"
    [event] = ControlEvent.objects.filter(action="task_retried")
    assert (event.details["arguments_changed"], event.channel, event.reason) == (True, "console", "typo")
    assert "blue" not in json.dumps(event.details)


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ("17", "{}", "expected a JSON array, such as"),
        ("", "{}", "got: nothing"),
        ("[17", "{}", "expected a JSON array, such as"),
        ("[NaN]", "{}", "NaN is not JSON"),
        ("[]", "[]", "expected a JSON object, such as"),
        ("[]", '{"a": }', "as named arguments, got: "),
        ("[" * 5_000, "{}", "expected a JSON array"),
        (json.dumps(["x" * failed_tasks.LARGEST_BODY]), "{}", "characters at most"),
        ('["a\\u0000b"]', "{}", None),
        ('["\\ud800"]', "{}", None),
    ],
)
def test_bad_arguments_are_refused_with_what_is_expected(held: None, args: str, kwargs: str, told: str | None) -> None:
    row = fail(17)

    status, answer = act(client_of(SEE, RETRY), "retry_changed", row, args=args, kwargs=kwargs)

    row.refresh_from_db()
    if told is None:
        assert (status, row.retried_at is not None) == (200, True), answer
        return
    assert status == 409
    assert told in answer["refused"]
    assert row.retried_at is None
    assert not PauseQueueEntry.objects.exists()


def test_changing_arguments_takes_the_right_to_see_them(held: None) -> None:
    row = fail(17)

    status, told = act(client_of("view_pausequeueentry", RETRY), "retry_changed", row, args="[1]", kwargs="{}")

    assert (status, told["refused"][:27]) == (409, "Cannot change the arguments")
    assert not PauseQueueEntry.objects.exists()


def test_who_may_only_look_cannot_retry(held: None) -> None:
    row = fail(17)

    assert act(client_of(SEE), "retry", row)[0] == 403
    assert not PauseQueueEntry.objects.exists()


def test_it_is_narrowed_to_a_name_and_long_lists_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed, "SHOWN", 2)
    for name in ("shop.sell", "shop.buy", "shop.sell", "shop.sell"):
        fail(name=name)
    client = client_of(SEE)

    assert page(client).count('<tr id="failed-') == 2
    assert "The last 2 are shown." in page(client)
    assert page(client, "?failed=shop.buy").count('<tr id="failed-') == 1
    assert "No task of this name" in page(client, "?failed=shop.lend%00")


def test_who_may_do_none_of_it_is_told_what_it_takes() -> None:
    answer = client_of().get(TASKS)

    assert answer.status_code == 403
    assert "to view pause queue entries or failed tasks" in answer.content.decode()
