"""Guessing of passwords and tokens is stopped before it costs anything, and nobody else is locked out."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client, RequestFactory
from rest_framework.authtoken.models import Token

from automation.models import Agent
from backend.lockout import address, counter, tokens
from backend.lockout.checks import check_proxies
from backend.lockout.throttles import AnonRate
from pause_manager.models import ControlEvent
from tests.support.agent_calls import make_agent
from tests.support.api_users import JOBS, RUNS, VIEW, make_user
from tests.support.factories import make_site

pytestmark = pytest.mark.django_db(transaction=True)

TRIES, OF_ADDRESS = 5, 20
AWAY = "redis://127.0.0.1:1/0"
SIGN_IN = {"console": "/sign-in/", "admin": "/admin/login/"}
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.fixture(autouse=True)
def _nothing_is_remembered_by_this_process() -> Any:
    tokens.fresh.__init__()  # type: ignore[misc]
    counter._local.__init__()  # type: ignore[misc]
    counter._away_until = 0.0


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that was hashed."""
    found: list[str] = []
    encode = MD5PasswordHasher.encode

    def counting(self: Any, password: str, salt: str) -> str:
        found.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counting)
    return found


@pytest.fixture
def alice() -> User:
    site = make_site("ours")
    user = make_user("alice", site, VIEW)
    user.is_staff = True
    user.save()
    return user


def sign_in(password: str, *, name: str = "alice", channel: str = "console", at: str = "192.0.2.1", **more: str) -> Any:
    given = {"username": name, "password": password, "next": "/"}
    return Client(REMOTE_ADDR=at, **more).post(SIGN_IN[channel], given)  # type: ignore[arg-type]


def by_token(url: str, header: str, *, address: str = "192.0.2.1", method: str = "get", **more: str) -> Any:
    client = Client(REMOTE_ADDR=address, headers={"Authorization": header, **more})
    if method == "get":
        return client.get(url)
    body = json.dumps(LIST_TOOLS if url == "/mcp" else {})
    return client.post(
        url, body, content_type="application/json", headers={"Accept": "application/json, text/event-stream"}
    )


def events(action: str) -> list[dict[str, Any]]:
    return [event.details for event in ControlEvent.objects.filter(action=action).order_by("id")]


@pytest.mark.parametrize("channel", SIGN_IN)
def test_wrong_passwords_are_stopped_after_a_few_and_the_right_one_gets_in_later(
    alice: User, hashed: list[str], settings: Any, channel: str
) -> None:
    settings.LOCKOUT = {**settings.LOCKOUT, "seconds": 6}  # longer than all that is tried takes on a busy machine
    hashed.clear()

    answers = [sign_in(f"wrong-{number}", channel=channel) for number in range(30)]

    assert [answer.status_code for answer in answers[: TRIES + 1]] == [200] * TRIES + [429]
    assert {answer.status_code for answer in answers[TRIES:]} == {429}
    assert len(set(hashed)) == TRIES
    assert 1 <= int(answers[-1]["Retry-After"]) <= 6
    assert "<time datetime=" in answers[-1].content.decode()
    assert sign_in("secret-of-alice", channel=channel).status_code == 429
    assert len(set(hashed)) == TRIES
    time.sleep(6.1)
    assert sign_in("secret-of-alice", channel=channel).status_code == 302


def test_what_was_tried_is_on_record_once(alice: User) -> None:
    for number in range(30):
        sign_in(f"wrong-{number}", channel="admin" if number % 2 else "console")

    assert events("sign_in_failed") == [{"account": "alice", "address": "192.0.2.1", "channel": "console", "tries": 1}]
    assert events("locked_out") == [{"account": "alice", "address": "192.0.2.1", "channel": "console", "tries": TRIES}]
    assert "wrong-" not in json.dumps(list(ControlEvent.objects.values_list("details", "reason")))


def test_an_attacker_locks_out_nobody_elsewhere(alice: User) -> None:
    for number in range(40):
        sign_in(f"wrong-{number}")
    for number in range(40):
        sign_in("wrong", name=f"name-{number}")

    assert sign_in("secret-of-alice").status_code == 429
    assert sign_in("secret-of-alice", at="192.0.2.2").status_code == 302


def test_many_names_from_one_address_are_stopped_too(alice: User, hashed: list[str]) -> None:
    hashed.clear()

    answers = [sign_in("Summer2026", name=f"name-{number}").status_code for number in range(100)]

    assert answers == [200] * OF_ADDRESS + [429] * (100 - OF_ADDRESS)
    assert len(hashed) == OF_ADDRESS
    assert len(events("locked_out")) == 1
    assert len(events("sign_in_failed")) < OF_ADDRESS


def test_a_name_is_one_however_it_is_written(alice: User) -> None:
    spellings = ["alice", "ALICE", " alice", "\u200balice", "ａｌｉｃｅ", "Alice"]

    answers = [sign_in("wrong", name=name).status_code for name in spellings]

    assert answers == [200] * TRIES + [429]


def test_a_network_of_version_six_is_one_address(alice: User) -> None:
    answers = [sign_in("wrong", at=f"2001:db8::{number:x}").status_code for number in range(8)]

    assert answers == [200] * TRIES + [429] * 3
    assert sign_in("secret-of-alice", at="2001:db8:0:1::1").status_code == 302


def test_right_sign_ins_are_never_too_many(alice: User) -> None:
    for _ in range(OF_ADDRESS + 5):
        assert sign_in("secret-of-alice").status_code == 302
    for _ in range(TRIES - 1):
        sign_in("wrong")
    assert sign_in("secret-of-alice").status_code == 302
    assert sign_in("wrong").status_code == 200


def test_many_at_once_are_no_more_than_many_in_a_row(alice: User, hashed: list[str]) -> None:
    hashed.clear()

    def attempt(number: int) -> int:
        try:
            return int(sign_in(f"wrong-{number}").status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(attempt, range(60)))

    assert sorted(answers) == [200] * TRIES + [429] * (60 - TRIES)
    assert len(set(hashed)) == TRIES


@pytest.mark.parametrize("forged", ["203.0.113.{}", "203.0.113.{}, 198.51.100.{}"])
def test_a_forged_forwarded_address_counts_for_nothing(alice: User, forged: str) -> None:
    answers = [sign_in("wrong", HTTP_X_FORWARDED_FOR=forged.format(number, number)).status_code for number in range(10)]

    assert answers == [200] * TRIES + [429] * 5


def test_behind_a_proxy_the_address_is_what_the_proxy_has_seen(alice: User, settings: Any) -> None:
    settings.NUM_PROXIES = 1

    def attempt(seen: str, number: int) -> int:
        forwarded = f"203.0.113.{number}, {seen}"
        return int(sign_in("wrong", at="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded).status_code)

    assert [attempt("198.51.100.1", number) for number in range(7)] == [200] * TRIES + [429] * 2
    assert attempt("198.51.100.2", 1) == 200


CHANNELS = [
    ("api", RUNS, "get", "Token"),
    ("agents", f"{JOBS}claim", "post", "Agent"),
    ("mcp", "/mcp", "post", "Bearer"),
]


@pytest.mark.parametrize(("channel", "url", "method", "keyword"), CHANNELS, ids=[channel for channel, *_ in CHANNELS])
def test_wrong_tokens_are_stopped_and_a_right_one_gets_in(
    alice: User, settings: Any, channel: str, url: str, method: str, keyword: str
) -> None:
    settings.LOCKOUT = {**settings.LOCKOUT, "seconds": 2}
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER}
    account = alice.membership_set.get().account if hasattr(alice, "membership_set") else make_site("more").account
    right = make_agent(account=account)[1] if channel == "agents" else Token.objects.create(user=alice).key

    answers = [by_token(url, f"{keyword} {number:040x}", method=method) for number in range(100)]

    assert [answer.status_code for answer in answers] == [401] * OF_ADDRESS + [429] * (100 - OF_ADDRESS)
    found = answers[-1].json()
    assert "locked_out" in json.dumps(found)
    assert int(answers[-1]["Retry-After"]) in (1, 2)
    assert [event["channel"] for event in events("locked_out")] == [channel]
    assert len(events("sign_in_failed")) == 1
    assert by_token(url, f"{keyword} {right}", method=method).status_code == 429
    assert by_token(url, f"{keyword} {right}", method=method, address="192.0.2.9").status_code == 200
    time.sleep(2.1)
    assert by_token(url, f"{keyword} {right}", method=method).status_code == 200


def test_the_same_wrong_token_again_and_again_is_stopped_alone(alice: User) -> None:
    right = Token.objects.create(user=alice).key

    answers = [by_token(RUNS, "Token left-in-a-script").status_code for _ in range(50)]

    assert answers == [401] * TRIES + [429] * (50 - TRIES)
    assert by_token(RUNS, f"Token {right}").status_code == 200


def test_a_token_that_was_right_lately_is_not_stopped_by_others_of_its_office(alice: User) -> None:
    right = Token.objects.create(user=alice).key
    assert by_token(RUNS, f"Token {right}").status_code == 200
    for number in range(40):
        by_token(RUNS, f"Token {number:040x}")
    tokens.fresh.__init__()  # type: ignore[misc]  # as in another web process

    assert by_token(RUNS, f"Token {right}").status_code == 200
    Token.objects.all().delete()
    assert by_token(RUNS, f"Token {right}").status_code == 401
    assert by_token(RUNS, f"Token {right}").status_code == 429


def test_a_page_that_asks_for_no_token_makes_none_known(alice: User) -> None:
    for number in range(40):
        by_token("/healthz", f"Token {number:040x}")
        by_token(RUNS, f"Token {number:040x}")

    assert by_token(RUNS, f"Token {39:040x}").status_code == 429
    assert not counter.is_marked("anything")


def test_a_locked_out_token_costs_no_look_into_the_database(alice: User, django_assert_num_queries: Any) -> None:
    for number in range(OF_ADDRESS):
        by_token(RUNS, f"Token {number:040x}")

    with django_assert_num_queries(0):
        assert by_token(RUNS, "Token new").status_code == 429


def test_without_redis_it_is_stopped_still_and_nobody_gets_an_error(
    alice: User, settings: Any, hashed: list[str]
) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "redis_url": AWAY}
    right = Token.objects.create(user=alice).key
    hashed.clear()

    answers = [sign_in(f"wrong-{number}").status_code for number in range(20)]

    assert answers == [200] * TRIES + [429] * (20 - TRIES)
    assert len(set(hashed)) == TRIES
    assert sign_in("secret-of-alice", at="192.0.2.2").status_code == 302
    assert by_token(RUNS, f"Token {right}", address="192.0.2.2").status_code == 200
    assert [by_token(RUNS, "Token wrong", address="192.0.2.3").status_code for _ in range(7)] == [401] * 5 + [429] * 2


def test_what_is_counted_ends_by_itself_and_names_no_token(alice: User) -> None:
    from pause_manager.messaging import redis_clients

    for number in range(8):
        sign_in("wrong", name="x" * 5_000 + str(number))
        by_token(RUNS, f"Token secret-{number}" + "y" * 2_000, address="192.0.2.7")

    client = redis_clients.client()
    keys = list(client.scan_iter("*count:*"))
    assert keys
    assert all(0 < client.ttl(key) <= 300 for key in keys)
    assert all(len(key) < 120 and b"secret" not in key for key in keys)


def test_an_agent_that_is_disabled_is_not_guessing(alice: User) -> None:
    site = make_site("more")
    agent, token = make_agent(account=site.account)
    Agent.objects.filter(pk=agent.pk).update(is_enabled=False)

    answers = {by_token(f"{JOBS}claim", f"Agent {token}", method="post").status_code for _ in range(10)}

    assert answers == {403}


def test_no_more_than_so_many_failures_are_on_record(alice: User) -> None:
    for network in range(8):
        for number in range(10):
            sign_in("wrong", name=f"name-{number}", at=f"198.51.{network}.1")

    assert ControlEvent.objects.filter(action="sign_in_failed").count() == 60
    assert connection.vendor == "postgresql"


@pytest.mark.parametrize(
    ("proxies", "seen", "forwarded", "expected"),
    [
        (0, "192.0.2.1", "203.0.113.1", "192.0.2.1"),
        (1, "10.0.0.1", "203.0.113.9, 203.0.113.1", "203.0.113.1"),
        (1, "10.0.0.1", "203.0.113.1:5060", "203.0.113.1"),
        (1, "10.0.0.1", "[2001:db8::7]:5060", "2001:db8::/64"),
        (2, "10.0.0.1", "203.0.113.9, 203.0.113.1, 10.0.0.2", "203.0.113.1"),
        (2, "10.0.0.1", "203.0.113.1", "203.0.113.1"),
        (1, "10.0.0.1", "", "10.0.0.1"),
        (1, "10.0.0.1", "nonsense", "unknown"),
        (0, "::ffff:192.0.2.1", "", "192.0.2.1"),
        (0, "", "", "unknown"),
    ],
)
def test_an_address_is_believed_as_far_as_our_proxies_wrote_it(
    settings: Any, proxies: int, seen: str, forwarded: str, expected: str
) -> None:
    settings.NUM_PROXIES = proxies
    request = RequestFactory(REMOTE_ADDR=seen, headers={"X-Forwarded-For": forwarded}).get("/")

    assert address.of(request) == expected


def test_a_proxy_that_nobody_told_of_is_warned_of(settings: Any) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert [one.id for one in check_proxies(None)] == ["lockout.W001"]
    settings.NUM_PROXIES = 1
    assert check_proxies(None) == []


def test_anonymous_floods_are_counted_over_all_processes_before_they_are_refused(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnonRate, "get_rate", lambda self: "5/min")

    answers = [Client(REMOTE_ADDR="192.0.2.5").get(RUNS).status_code for _ in range(8)]
    forged = Client(REMOTE_ADDR="192.0.2.5", headers={"X-Forwarded-For": "203.0.113.5"}).get(RUNS)

    assert answers == [401] * 5 + [429] * 3
    assert forged.status_code == 429
    assert 0 < int(forged["Retry-After"]) <= 60
    assert counter.look(counter.Count("throttle_anon_192.0.2.5", 5, 60)).wait > 0, "in Redis"
    assert Client(REMOTE_ADDR="192.0.2.6").get(RUNS).status_code == 401
