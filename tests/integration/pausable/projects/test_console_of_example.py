"""The console of ``examples/foreign_project`` on a real server under WSGI: sign in, see the fleet, pause it."""

from __future__ import annotations

import http.cookiejar
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from backend.embedded import die_with_parent
from tests.integration.pausable.projects.test_example import EXAMPLE, Project, project
from tests.support.workers import eventually

assert project
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240), pytest.mark.slow]


class Browser:
    """What a person's browser sends: cookies, and the token of the page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), urllib.request.ProxyHandler({})
        )
        self.page = ""

    def get(self, path: str) -> str:
        with self._opener.open(f"{self.url}{path}", timeout=20) as answer:
            self.page = answer.read().decode()
        return self.page

    def post(self, path: str, **fields: str) -> str:
        token = re.search(r'(?:data-csrf|name="csrfmiddlewaretoken" value)="([^"]+)"', self.page)
        assert token is not None, self.page[:500]
        headers = {"X-CSRFToken": token[1], "Referer": f"{self.url}{path}"}
        body = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token[1]}).encode()
        with self._opener.open(urllib.request.Request(f"{self.url}{path}", body, headers), timeout=20) as answer:
            return str(answer.read().decode())


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    project.manage("migrate", "--verbosity", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
        cwd=EXAMPLE,
        env=project.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )
    try:
        assert eventually(lambda: _answers(url), 60, every=0.3)
        yield url
    finally:
        process.kill()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/admin/login/", timeout=5):
            return True
    except urllib.error.URLError:
        return False


def test_a_person_pauses_the_fleet_of_a_project_without_runs_by_its_pages(project: Project, server: str) -> None:
    project.manage(
        "shell",
        "--no-imports",
        "-c",
        "from django.contrib.auth.models import User; User.objects.create_superuser('anna', password='a-long-one')",
    )
    browser = Browser(server)

    assert "Log in" in browser.get("/slackwater/fleet/"), "who is not signed in is sent to the sign-in page"
    browser.post("/admin/login/?next=/slackwater/fleet/", username="anna", password="a-long-one")
    fleet = browser.get("/slackwater/fleet/")
    assert "Pause the fleet" in fleet
    assert [
        title for title in ("Fleet", "Pause queue", "Tasks", "Resources") if f"<span>{title}</span>" not in fleet
    ] == []
    assert "Fleet paused (drain)." in browser.post("/slackwater/fleet/", do="pause", reason="upgrade to 2.5")

    assert "Paused (drain)" in project.manage("fleet", "status")
    polled = browser.get("/slackwater/events/?topic=fleet&topic=fleet-badge")
    assert "upgrade to 2.5" in polled
    assert "Paused (Drain)" in polled
    assert "orders.tasks.restock" in browser.get("/slackwater/tasks/")
    for path in ("pause-queue", "resources"):
        assert browser.get(f"/slackwater/{path}/").count("<h1>") == 1
    assert "svg" in browser.get("/static/console/icons.svg")
    browser.get("/slackwater/fleet/")
    assert "Fleet resumed." in browser.post("/slackwater/fleet/", do="resume", reason="upgraded")
    assert "not paused" in project.manage("fleet", "status").lower()


def test_what_failed_is_retried_with_other_arguments_on_the_page_of_tasks(project: Project, server: str) -> None:
    project.manage(
        "shell",
        "--no-imports",
        "-c",
        "from django.contrib.auth.models import User; User.objects.create_superuser('anna', password='a-long-one')",
    )
    project.workers.start("shop", "-Q", "celery,control", "-c", "2", "-B", "-s", str(project.workers.root / "beat"))
    project.manage(
        "shell",
        "--no-imports",
        "-c",
        "from orders.tasks import charge, ship; (charge.s(0) | ship.s()).apply_async()",
    )
    browser = Browser(server)
    browser.get("/admin/login/")
    browser.post("/admin/login/?next=/slackwater/tasks/", username="anna", password="a-long-one")

    assert eventually(lambda: 'id="failed-' in browser.get("/slackwater/tasks/"), 60, every=0.5)

    assert "ValueError: Cannot charge order 0: orders are numbered from 1." in browser.page
    assert "failed-" in browser.get("/slackwater/events/?topic=tasks")
    page = browser.get("/slackwater/tasks/")
    [pk] = re.findall(r'<tr id="failed-(\d+)"', page)
    with pytest.raises(urllib.error.HTTPError) as refused:
        browser.post("/slackwater/tasks/", do="retry_changed", failed=pk, args="seven", kwargs="{}")
    assert "expected a JSON array, such as" in refused.value.read().decode()
    told = browser.post("/slackwater/tasks/", do="retry_changed", failed=pk, args="[7]", kwargs="{}", reason="typo")
    assert "Retried with other arguments." in told
    done = "from shop.celery import app; from pause_manager.models import FailedTask; "
    state = "print([app.AsyncResult(one.task_id).result for one in FailedTask.objects.all()])"
    assert eventually(lambda: "[7]" in project.manage("shell", "--no-imports", "-c", done + state), 30, every=0.5)
    assert ">retried</span>" in browser.get("/slackwater/tasks/")


def test_the_console_loads_neither_the_engine_nor_the_rest_framework(project: Project) -> None:
    told = project.manage(
        "shell",
        "--no-imports",
        "-c",
        "import sys, shop.urls; print([name for name in ('rest_framework', 'automation') if name in sys.modules])",
    )

    assert told.strip().splitlines()[-1] == "[]"
