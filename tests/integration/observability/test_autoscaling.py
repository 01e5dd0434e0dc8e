"""The triggers that the page on autoscaling gives ask for what a scrape tells; and what waits, at each door."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from django.db.models.functions import Now

from automation.runs import lifecycle
from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.models import WaitingSample
from pause_manager.observability import waiting
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.tasks import forget_history, poll
from tests.support.api_users import client_of, make_user
from tests.support.factories import OPERATOR, make_run
from tests.support.scrape import Scrape

PAGE = Path(__file__).parents[3] / "docs/operations/autoscaling.md"
pytestmark = pytest.mark.django_db(transaction=True)


def documents() -> dict[str, dict[str, Any]]:
    found = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    return {document.get("kind", "rules"): document for document in found}


def labels_told() -> dict[str, set[str]]:
    make_run("few", items=9)
    told: dict[str, set[str]] = {}
    for sample in Scrape.of_the_view().samples:
        told.setdefault(sample.name, set()).update(sample.labels)
    return told


def test_the_trigger_of_keda_asks_for_what_is_told():
    [trigger] = documents()["ScaledObject"]["spec"]["triggers"]
    told = labels_told()

    query = trigger["metadata"]["query"]

    promql_parser.parse(query)
    selectors = re.findall(r"(slackwater_\w+)\{(\w+)=", query)
    assert {name for name, _ in selectors} == {"slackwater_runnable", "slackwater_slices"}
    assert all(label in told[name] for name, label in selectors)
    assert trigger["type"] == "prometheus"


def test_the_metric_of_the_hpa_is_told():
    [metric] = documents()["HorizontalPodAutoscaler"]["spec"]["metrics"]
    asked = metric["external"]["metric"]

    assert set(asked["selector"]["matchLabels"]) <= labels_told()[asked["name"]]
    assert documents()["rules"]["externalRules"][0]["seriesQuery"] == asked["name"]


class TestWhatWaits:
    def test_is_told_by_the_metric_kept_once_a_minute_and_shown_at_each_door(self, shell):
        run, other = make_run("few", items=3), make_run("few", items=3)
        lifecycle.pause_runs([run.pk, other.pk], actor=OPERATOR)
        manager.pause_work([WithheldDispatch("import:1", "others.work", "others", Needs())], reason="full")

        assert waiting.record()
        assert not waiting.record() or WaitingSample.objects.filter(work="all").count() == 2, "a minute has begun"

        told = Scrape.of_the_view()
        assert told.value("slackwater_waiting", work="runs", reason="operator") == 2
        assert told.value("slackwater_waiting", work="tasks", reason="capacity") == 1
        kept = WaitingSample.objects.filter(minute=WaitingSample.objects.earliest("minute").minute)
        assert {(one.work, one.reason): one.count for one in kept} == {
            ("runs", "operator"): 2,
            ("tasks", "capacity"): 1,
            ("all", "all"): 3,
        }
        answer = client_of(make_user("rita", None)).get("/api/v1/waiting/", {"since": "2020-01-01T00:00:00Z"}).json()
        assert {"work": "runs", "reason": "operator", "count": 2} in answer["now"]
        assert len(answer["history"]) >= 3
        assert answer["is_complete"]
        shown = shell("waiting", "--json").objects
        assert {name: value for name, value in shown[0].items() if name != "minutes"} == {
            "work": "runs",
            "reason": "operator",
            "now": 2,
            "mean": 2.0,
            "most": 2,
        }
        assert "operator" in shell("waiting").out

    def test_a_wrong_time_is_refused(self):
        answer = client_of(make_user("rita", None)).get("/api/v1/waiting/", {"since": "soon"})

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")

    def test_the_poll_keeps_it_and_what_is_old_goes(self):
        poll()
        assert WaitingSample.objects.get(work="all").count == 0
        WaitingSample.objects.update(minute=Now() - timedelta(days=15))
        WaitingSample.objects.create(minute=Now(), work="all", reason="all", count=1)

        forget_history()

        assert [one.count for one in WaitingSample.objects.all()] == [1]

    def test_nothing_waits(self, shell):
        assert shell("waiting").out == "Nothing waits.\n"
