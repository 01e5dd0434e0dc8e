"""The API as a web server serves it: a real process, real sockets."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.api_users import AUTOMATION, OPERATE, RUNS, VIEW, client_of, make_user

pytestmark = pytest.mark.xdist_group("web")

REPOSITORY = Path(__file__).resolve().parents[3]
NEW = {"pipeline": "drill", "site": "ours", "params": {"items": 3}}


@pytest.fixture(scope="module")
def shared_server(shared_process_env) -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "backend.asgi:application", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=shared_process_env)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            for _ in range(300):
                try:
                    client.get("/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def server(shared_server: httpx.Client, transactional_db: None) -> httpx.Client:
    """A client of the web server, without cookies."""
    shared_server.cookies.clear()
    return shared_server


@pytest.fixture
def token(operator) -> dict[str, str]:
    from rest_framework.authtoken.models import Token

    return {"Authorization": f"Token {Token.objects.create(user=operator).key}"}


def test_a_script_creates_pauses_resumes_and_cancels_with_its_token(server, token):
    made = server.post(RUNS, json=NEW, headers=token)
    url = f"{RUNS}{made.json()['id']}/"

    answers = [server.post(f"{url}{verb}/", headers=token) for verb in ("pause", "resume", "resume", "cancel")]

    assert made.status_code == 201
    assert httpx.URL(made.headers["Location"]).path == url
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [
        (200, "paused"),
        (200, "running"),
        (409, "running"),
        (200, "cancelled"),
    ]
    assert server.get(url, headers=token).json()["status"] == "cancelled"


@pytest.mark.req("P-31")
@pytest.mark.slow
def test_a_parked_run_is_started_anyway_with_force(server, token, settings, site, viewer):
    from rest_framework.authtoken.models import Token

    from automation.models import AutomationRun
    from pause_manager.models import ControlEvent, Hold, PauseQueueEntry
    from tests.support import sampled_fleet
    from tests.support.factories import make_run

    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True, "missed_samples": 300}
    sampled_fleet.node("here", cores=8, foreign=8)
    parked = make_run(site=site)
    url = f"{RUNS}{parked.pk}/"
    assert PauseQueueEntry.objects.waiting().filter(ref=parked.scope).exists()
    reader = {"Authorization": f"Token {Token.objects.create(user=viewer).key}"}
    force = {"force": True, "reason": "the client waits"}

    refused = server.post(f"{url}resume/", json=force, headers=reader)
    plain = server.post(f"{url}resume/", json={"reason": "on"}, headers=token)
    odd = server.post(f"{url}resume/", json={"force": "perhaps"}, headers=token)
    assert Hold.objects.covering([parked.scope]).exists(), "none of them has changed anything"
    forced = server.post(f"{url}resume/", json=force, headers=token)
    again = server.post(f"{url}resume/", json=force, headers=token)

    assert refused.status_code == 403
    assert (plain.status_code, odd.status_code) == (409, 400)
    # It has left the pause queue; the server has no code for a pipeline of the tests, and says so.
    assert (forced.status_code, forced.json()["status"], forced.json()["lifecycle"]) == (200, "waiting", "running")
    assert AutomationRun.objects.get(pk=parked.pk).ignores_capacity
    assert not PauseQueueEntry.objects.waiting().exists()
    assert ControlEvent.objects.filter(scope=parked.scope, reason="the client waits", channel="api").exists()
    assert (again.status_code, again.json()["code"]) == (409, "not_parked")
    assert again.json()["message"] == (
        f"Cannot force run {parked.pk}: it does not wait for capacity. Resume it without force if it is paused."
    )


def test_a_file_is_uploaded_and_an_odd_request_gets_json(server, token):
    words = b"keyword\n" + b"".join(b"word %d\n" % number for number in range(50_000))
    form = {"pipeline": "content", "site": "ours", "start": "false"}

    made = server.post(RUNS, data=form, files={"input": ("words.csv", words)}, headers=token)
    odd = {
        "chunked": server.post(RUNS, content=iter([b"{}"]), headers=token | {"Content-Type": "application/json"}),
        "malformed": server.post(RUNS, content=b'{"pipeline"', headers=token | {"Content-Type": "application/json"}),
        "nobody": server.get(RUNS),
        "bad token": server.get(RUNS, headers={"Authorization": "Token x"}),
        "nowhere": server.get(f"{AUTOMATION}nowhere/", headers=token),
        "method": server.delete(RUNS, headers=token),
        "no slash": server.get(RUNS.rstrip("/"), headers=token, follow_redirects=True),
    }

    assert (made.status_code, made.json()["total_items"]) == (201, 50_000)
    assert {name: (answer.status_code, answer.json().get("code")) for name, answer in odd.items()} == {
        "chunked": (411, "length_required"),
        "malformed": (400, "parse_error"),
        "nobody": (401, "not_authenticated"),
        "bad token": (401, "authentication_failed"),
        "nowhere": (404, "not_found"),
        "method": (405, "method_not_allowed"),
        "no slash": (200, None),
    }
    assert odd["nobody"].headers["WWW-Authenticate"] == "Token"


def test_a_session_needs_its_csrf_token_to_change_anything(server, site):
    user = make_user("bella", site, VIEW, OPERATE)
    user.is_staff = True
    user.save()
    server.get("/admin/login/")
    form = {"username": "bella", "password": "secret-of-bella", "csrfmiddlewaretoken": server.cookies["csrftoken"]}
    server.post("/admin/login/", data=form)

    seen = server.get(RUNS)
    forged = server.post(RUNS, json=NEW)
    meant = server.post(RUNS, json=NEW, headers={"X-CSRFToken": server.cookies["csrftoken"]})

    assert (seen.status_code, forged.status_code, meant.status_code) == (200, 403, 201)
    assert "CSRF" in forged.json()["message"]


@pytest.mark.slow
def test_schema_and_documentation_are_served_from_here(server, token):
    schema = server.get("/api/schema/?format=json", headers=token).json()
    page = server.get("/api/docs/", headers=token)
    assets = [path for path in re.findall(r'(?:src|href)="([^"]+)"', page.text) if not path.startswith("data:")]

    assert f"{RUNS}{{run_id}}/pause/" in schema["paths"]
    assert page.status_code == 200
    assert assets
    assert all(path.startswith("/") and server.get(path, headers=token).status_code == 200 for path in assets)


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["req-1", None, "a b", "x" * 101])
def test_every_answer_carries_a_request_id(api, given):
    headers = {"X-Request-ID": given} if given is not None else {}

    for response in (api.get(RUNS, headers=headers), api.get(f"{RUNS}x/", headers=headers)):
        found = response.headers["X-Request-ID"]
        assert found == given if given == "req-1" else re.fullmatch("[0-9a-f]{32}", found)


@pytest.mark.django_db
def test_too_many_requests_are_told_when_to_come_again(operator, monkeypatch):
    from django.core.cache import cache
    from rest_framework.throttling import UserRateThrottle

    cache.clear()
    monkeypatch.setitem(UserRateThrottle.THROTTLE_RATES, "user", "2/min")
    answers = [client_of(operator).get(RUNS) for _ in range(3)]
    cache.clear()

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].data["code"] == "throttled"
    assert 0 < int(answers[2].headers["Retry-After"]) <= 60
