"""The dashboard and the alert rules: every expression parses, and asks only for what a real scrape tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from automation.runs import lifecycle, questions, reconciler
from automation.runs.questions import Asking
from automation.worker.stage_loop import FAILED
from pause_manager import fleet, holds, manager
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import GpuView
from pause_manager.holds.milestones import DRAIN_SECONDS, RESUME_SECONDS
from pause_manager.nodes import members
from pause_manager.observability import metrics
from pause_manager.observability.gate_health import Layer
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, leased, make_run, settle, stage_of
from tests.support.node_factories import make_node
from tests.support.scrape import Scrape

DEPLOY = Path(__file__).parents[3] / "deploy"
ADDED_BY_PROMETHEUS = {"instance", "job"}
SUFFIXES = re.compile("_(bucket|sum|count|total)$")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/slackwater.json").read_text())
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def parts(expression: str, kind: type[Any]) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), lambda part: found.append(part) if type(part) is kind else None)
    return found


@pytest.fixture
def labels_of(transactional_db: None, settings: Any) -> dict[str, set[str]]:
    """The labels that each sample of a scrape has, in a system in which there is some of everything."""
    make_node("n1", gpus=(GpuView(0, 1_000, 500, utilisation=0.5, temperature_c=50),))
    settle(make_run(items=2))
    run = make_run(items=2)
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True}
    make_run(items=2)
    leased(run)
    members.acknowledge("w@n1", node="n1", queues=["control"], version=1)  # and nobody serves "nowhere"
    questions.ask(stage_of(run), Asking(questions.Kind.QUESTION, "Well?"))
    lifecycle.pause(run.pk, actor=OPERATOR)
    holds.place(["queue:a"], actor=OPERATOR)
    manager.pause_work([WithheldDispatch("mine:1", "tests.nothing", "nowhere", Needs())], reason="no room")
    reconciler.reconcile()
    manager.poll()
    FAILED.add(pipeline="numbers", stage="echo")
    reconciler.LOST.add(why="worker_lost")
    reconciler.FAILURES.add(part="seal")
    metrics.DEGRADED.add(layer="capacity")
    DRAIN_SECONDS.observe(1, scope="run", kind="operator", mode="quiesce")
    RESUME_SECONDS.observe(1, scope="run", kind="operator")
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR, confirmation="pause")
    scrape = Scrape.of_the_view()
    assert not scrape.errors()
    found: dict[str, set[str]] = {}
    for sample in scrape.samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    for name in scrape.families:
        found.setdefault(name, set())  # told, if only with its help
    return found


def test_every_expression_asks_for_what_a_scrape_tells(labels_of):
    asked = set()
    for expression in expressions():
        known = set(ADDED_BY_PROMETHEUS)
        for selector in parts(expression, promql_parser.VectorSelector):
            assert selector.name in labels_of, (expression, selector.name)
            matched = {matcher.name for matcher in selector.matchers.matchers}
            assert matched <= labels_of[selector.name], (expression, matched)
            known |= labels_of[selector.name]
            asked.add(SUFFIXES.sub("", selector.name))
        for aggregate in parts(expression, promql_parser.AggregateExpr):
            if aggregate.modifier is not None:
                assert set(aggregate.modifier.labels) <= known, expression
    assert len(asked) > 30


def test_what_does_not_parse_is_noticed():
    for wrong in ("sum(", "rate(slackwater_runs)", "slackwater_runs{status=}"):
        with pytest.raises(ValueError, match=r"."):
            promql_parser.parse(wrong)


@pytest.mark.req("W-41")
def test_every_alert_says_what_it_means_and_stands_in_the_docs():
    docs = (DEPLOY.parent / "docs/operations/observability.md").read_text()
    names = [rule["alert"] for rule in rules()]

    assert len(names) == len(set(names)) >= 12
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(".")
        assert f"`{rule['alert']}`" in docs, rule["alert"]
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        grouped = {
            label
            for aggregate in parts(rule["expr"], promql_parser.AggregateExpr)
            for label in (aggregate.modifier.labels if aggregate.modifier else ())
        }
        assert used <= grouped, rule["alert"]


def test_the_alert_of_a_degraded_gate_is_of_the_layers_that_stop_work():
    (rule,) = (rule for rule in rules() if rule["alert"] == "SlackwaterGateDegraded")

    (selector,) = parts(rule["expr"], promql_parser.VectorSelector)

    (matcher,) = selector.matchers.matchers
    assert matcher.name == "layer"
    assert set(matcher.value.split("|")) == {layer.value for layer in Layer if layer.is_open}


def test_the_dashboard_is_whole():
    panels = dashboard()["panels"]
    shown = [panel for panel in panels if panel["type"] != "row"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in shown:
        assert panel["title"]
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
    cells = [
        (at["x"] + x, at["y"] + y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["w"])
        for y in range(at["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
