"""Logs: lines for people by default, objects for machines, each with what it is about."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from pause_manager import holds
from pause_manager.actor import Actor
from pause_manager.models import ControlEvent
from pause_manager.observability import log_context
from tests.support.api_users import RUNS
from tests.support.factories import make_run

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[3]


@pytest.fixture
def written() -> Iterator[Any]:
    """What the log of the settings, as JSON, writes during the test."""
    stream = io.StringIO()
    wanted: dict[str, Any] = copy.deepcopy(settings.LOGGING)
    wanted["handlers"]["console"] |= {"formatter": "json", "stream": stream}
    before, level = logging.root.handlers[:], logging.root.level
    logging.config.dictConfig(wanted)
    ours = logging.root.handlers
    logging.root.handlers = [*before, *ours]
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.root.handlers = before
    logging.root.setLevel(level)


@pytest.mark.req("W-41")
def test_an_event_is_an_object_with_everything_a_machine_asks_for(written):
    run = make_run(start=False)

    holds.place([run.scope], mode="drain", actor=Actor("user:ann", "mcp", "request-7"), reason="the demo")

    (line,) = [line for line in written() if line.get("action") == "hold_placed"]
    assert line["at"].endswith("+00:00")
    assert (line["level"], line["logger"]) == ("INFO", "pause_manager.audit")
    assert line["run"] == str(run.pk)
    for name, value in (("mode", "drain"), ("reason", "the demo"), ("actor", "user:ann"), ("channel", "mcp")):
        assert line[name] == value
    assert line["request_id"] == "request-7"
    assert line["message"].startswith(f"hold_placed {run.scope} by user:ann through mcp")


def test_what_is_bound_is_in_every_line_and_gone_afterwards(written):
    logger = logging.getLogger("somewhere")

    with log_context.bound(run="r1", stage="echo"):
        logger.info("a %s", "b")
        with log_context.bound(version=7):
            logger.info("inner", extra={"stage": "its own"})
    logger.info("after")

    first, inner, after = written()
    assert (first["message"], first["run"], first["stage"]) == ("a b", "r1", "echo")
    assert (inner["run"], inner["stage"], inner["version"]) == ("r1", "its own", 7)
    assert not {"run", "stage", "version", "request_id"} & after.keys()


def test_an_exception_is_one_object_with_its_traceback(written):
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("somewhere").exception("It failed.")

    (line,) = written()
    assert line["message"] == "It failed."
    assert "ValueError: no such thing" in line["exc_info"]


@pytest.mark.parametrize("given", ["from-the-caller", "", "not a valid\tid", "x" * 101])
def test_a_request_has_one_id_in_its_answer_its_lines_and_its_events(written, given):
    client = Client(headers={"X-Request-ID": given} if given else {})
    client.force_login(User.objects.create_superuser("root"))
    run = make_run(start=False)

    answer = client.post(f"{RUNS}{run.pk}/pause/", {"reason": "lunch"}, content_type="application/json")

    request_id = answer["X-Request-ID"]
    assert answer.status_code == 200
    assert (request_id == given) == (given == "from-the-caller")
    assert len(request_id) <= 100
    event = ControlEvent.objects.get(action="hold_placed")
    (line,) = [line for line in written() if line.get("action") == "hold_placed"]
    assert event.request_id == line["request_id"] == request_id


def test_pages_that_are_no_api_have_an_id_too():
    assert Client(headers={"X-Request-ID": "mine"}).get("/healthz")["X-Request-ID"] == "mine"
    assert Client().get("/admin/login/")["X-Request-ID"]


def test_an_unknown_format_is_refused_in_a_sentence():

    env = {**os.environ, "LOG_FORMAT": "xml"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode != 0
    assert "LOG_FORMAT: expected one of line, json, got: xml" in done.stderr
