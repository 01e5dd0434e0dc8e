"""What ``/metrics`` tells: true figures, in conventional names, by few statements that look at nothing finished."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import automation.gauges
import pause_manager.gauges
from automation import leases
from automation.gate import pending
from automation.models import WorkSlice
from automation.models.tables import SLICE
from automation.reports import waiting
from automation.runs import lifecycle, reconciler
from automation.workload import allocations
from pause_manager import capacity, fleet, holds, manager, nodes
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import GpuView
from pause_manager.models.fleet import FleetWorker
from pause_manager.nodes.persisted_state import PersistedNodeState
from pause_manager.observability import exposition, metrics
from pause_manager.pause_queue import parked_tasks
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, drain, expire_leases, leased, make_run, make_site, settle
from tests.support.node_factories import make_node
from tests.support.scrape import METRICS, renamed

pytestmark = pytest.mark.django_db

GIB = 1024**3


def test_runs_and_slices_are_told_as_people_see_them(scrape):
    running, pausing, paused, cancelling, _ = (make_run(items=3) for _ in range(5))
    make_run("scripted", items=20, start=False)
    leased(running)
    leased(pausing)
    leases.postpone(leased(cancelling), 100, "the provider asks to try later")
    leased(cancelling)
    lifecycle.pause_runs([pausing.pk, paused.pk], actor=OPERATOR)
    lifecycle.cancel(cancelling.pk, actor=OPERATOR)
    late = leased(make_run(items=2))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SLICE} SET lease_expires_at = now() - interval '1 second' WHERE id = %s", [late.slice_id]
        )

    told = scrape()

    found = {
        sample.labels["status"]: sample.value
        for sample in told.samples
        if sample.name == "slackwater_runs" and sample.labels["pipeline"] == "numbers"
    }
    assert found == {"pending": 0, "waiting": 0, "running": 3, "pausing": 1, "paused": 1, "cancelling": 1}
    assert told.value("slackwater_runs", status="pending", pipeline="scripted") == 1
    assert told.value("slackwater_slices", state="leased") == 3
    assert told.value("slackwater_slices", state="stale") == 1
    assert told.value("slackwater_slices", state="later") == 1
    assert told.value("slackwater_slices", state="due") == 3 * 5 + 2 - 5
    assert told.value("slackwater_pausing_oldest_age_seconds") >= 0
    assert told.errors() == set()


@pytest.mark.parametrize("scope", ["pipeline:numbers", "lane:blog"])
def test_pending_runs_wait_when_a_wider_hold_keeps_them(scrape, scope):
    make_run(items=2, start=False, site=make_site("blog"))
    make_run("scripted", items=2, start=False, site=make_site("shop"))

    holds.place([scope], actor=OPERATOR, reason="the demo")

    told = scrape()
    assert told.value("slackwater_runs", status="waiting", pipeline="numbers") == 1
    assert told.value("slackwater_runs", status="pending", pipeline="numbers") == 0
    assert told.value("slackwater_runs", status="pending", pipeline="scripted") == 1


@pytest.mark.req("P-28")
def test_holds_and_the_pause_queue_are_told_with_their_ages(scrape):
    holds.place(["fleet"], mode="drain", actor=OPERATOR, reason="upgrade")
    holds.place(["queue:a", "queue:b"], mode="quiesce", actor=OPERATOR)
    given = [WithheldDispatch(f"mine:{n}", "tests.nothing", "nowhere", Needs(), priority=2) for n in range(3)]
    manager.pause_work(given, reason="no room")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pause_manager_hold SET created_at = now() - interval '2 hours' WHERE scope = 'queue:b'")
        cursor.execute(
            "UPDATE pause_manager_pausequeueentry SET paused_at = now() - interval '1 hour' WHERE ref = 'mine:1'"
        )

    told = scrape()

    assert told.value("slackwater_holds", scope="fleet", kind="operator", mode="drain") == 1
    queue = {"scope": "queue", "kind": "operator", "mode": "quiesce"}
    assert told.value("slackwater_holds", **queue) == 2
    assert told.value("slackwater_hold_oldest_age_seconds", **queue) == pytest.approx(7200, abs=60)
    assert told.value("slackwater_pause_queue_entries", priority="2") == 3
    assert told.value("slackwater_pause_queue_oldest_age_seconds", priority="2") == pytest.approx(3600, abs=60)
    assert told.value("slackwater_pause_queue_entries", priority="1") == 0


@pytest.mark.req("W-41")
def test_the_fleet_switch_is_told_with_who_obeys(scrape):
    running = scrape()
    for name, version in (("old", 1), ("new", 2)):
        FleetWorker.objects.create(key=name, node="n1", acknowledged_version=version)
    FleetWorker.objects.create(key="gone", node="n1", last_seen_at=timezone.now() - timedelta(hours=1))

    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR, confirmation="pause")

    paused = scrape()
    for told, drains, version, yes, no in ((running, 0, 1, 0, 0), (paused, 1, 2, 1, 1)):
        assert told.value("slackwater_fleet_paused", mode="drain") == drains
        assert told.value("slackwater_fleet_paused", mode="quiesce") == 0
        assert told.value("slackwater_fleet_version") == version
        assert told.value("slackwater_workers", kind="worker", obeys="yes") == yes
        assert told.value("slackwater_workers", kind="worker", obeys="no") == no
    assert running.value("slackwater_fleet_paused_age_seconds") == 0
    assert paused.value("slackwater_fleet_paused_age_seconds") == pytest.approx(0, abs=60)
    assert paused.value("slackwater_holds", scope="fleet", kind="operator", mode="drain") == 1


def test_nodes_and_gpus_are_told_in_base_units(scrape):
    gpu = GpuView(0, 81_920, 40_960, own_mib=1_024, utilisation=0.25, temperature_c=60)
    lost = GpuView(1, 81_920, None, problem="the driver does not answer")
    make_node("big", cores=16.0, foreign_cores=4.0, gpus=(gpu, lost))
    make_node("gone", age_seconds=600, is_live=False)
    nodes.set_consuming("big", False)
    nodes.save_state("big", PersistedNodeState(capacity.NodeState(is_saturated=True)))
    holds.place(["node:gone"], actor=OPERATOR)

    told = scrape()

    for name, node, value in (
        ("online", "big", 1),
        ("online", "gone", 0),
        ("consuming", "big", 0),
        ("saturated", "big", 1),
        ("saturated", "gone", 0),
        ("held", "gone", 1),
        ("cores", "big", 16),
        ("foreign_cores", "big", 4),
        ("free_cores", "big", 12),
        ("memory_bytes", "big", 16 * GIB),
        ("free_memory_bytes", "big", 12 * GIB),
        ("free_ratio", "big", 0.75),
    ):
        assert told.value(f"slackwater_node_{name}", node=node) == value, (name, node)
    for name, value in (
        ("usable", 1),
        ("memory_bytes", 80 * GIB),
        ("free_memory_bytes", 40 * GIB),
        ("own_memory_bytes", GIB),
        ("utilisation_ratio", 0.25),
        ("temperature_celsius", 60),
    ):
        assert told.value(f"slackwater_gpu_{name}", node="big", gpu="0") == value, name
    assert told.value("slackwater_gpu_usable", node="big", gpu="1") == 0
    assert told.value("slackwater_gpu_free_memory_bytes", node="big", gpu="1") is None


@pytest.mark.django_db(transaction=True)
def test_work_is_counted_and_durations_are_measured(scrape):
    settle(make_run(items=5))
    reconciler.reconcile()
    manager.poll()
    run = make_run(items=3)
    leased(run)
    expire_leases(run)
    reconciler.reap()

    told = scrape()

    of_stage = {"pipeline": "numbers", "stage": "echo"}
    assert told.value("slackwater_items_processed_total", **of_stage) == 5
    assert told.value("slackwater_items_failed_total", **of_stage) is None
    assert told.value("slackwater_leases_lost_total", why="lease_expired") == 1
    assert told.value("slackwater_control_events_total", action="complete") == 1
    assert told.value("slackwater_control_events_total", action="worker_lost") == 1
    assert told.value("slackwater_reconcile_duration_seconds_count") >= 1
    assert told.value("slackwater_poll_duration_seconds_count") == 1
    assert told.value("slackwater_poll_duration_seconds_sum") > 0
    assert told.value("slackwater_poll_age_seconds") == pytest.approx(0, abs=60)


@pytest.mark.django_db(transaction=True)
def test_a_pause_is_measured_once_until_it_rests_and_once_until_it_goes_on(scrape):
    going_on = {"scope": "run", "kind": "operator"}
    settling = {**going_on, "mode": "quiesce"}
    run, idle = make_run(items=6), make_run(items=6)
    first, second = leased(run), leased(run)

    lifecycle.pause_runs([run.pk, idle.pk], actor=OPERATOR)
    leases.release(first)
    reconciler.reconcile()
    assert scrape().value("slackwater_pause_settle_seconds_count", **settling) is None  # one is still at work
    leases.release(second)
    for _ in range(3):
        reconciler.reconcile()
    settled = scrape()
    lifecycle.resume(run.pk, actor=OPERATOR)  # not the other, which would have its turn at the worker
    for _ in range(3):
        drain(run)
        WorkSlice.objects.filter(stage_run__run=run).update(available_at=None)

    told = scrape()
    # The idle run was paused the moment it was held, which says nothing of how fast work stops.
    assert settled.value("slackwater_pause_settle_seconds_count", **settling) == 1
    assert told.value("slackwater_pause_settle_seconds_count", **settling) == 1
    assert told.value("slackwater_resume_seconds_count", **going_on) == 1
    assert told.value("slackwater_resume_seconds_bucket", **going_on, le="+Inf") == 1


@pytest.mark.django_db(transaction=True)
def test_decisions_and_a_gate_that_cannot_judge_are_counted(scrape, settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True}

    make_run(items=2)  # no node: it waits
    with renamed("pause_manager_pollstate"):
        make_run(items=2)

    told = scrape()
    codes = {s.labels["code"]: s.value for s in told.samples if s.name == "slackwater_capacity_decisions_total"}
    assert codes["unreadable"] == 1
    assert sum(codes.values()) == 2
    assert told.value("slackwater_gate_degraded", layer="capacity") == 1
    assert told.value("slackwater_gate_degradations_total", layer="capacity") == 1
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pause_manager_countertotal SET counted_at = now() - interval '2 minutes'")
    assert scrape().value("slackwater_gate_degraded", layer="capacity") == 0


UNITS = ("_seconds", "_bytes", "_ratio", "_celsius", "_cores")
COUNTED = {  # gauges that count things have no unit
    "slackwater_runnable",
    "slackwater_questions",
    "slackwater_accounts_low_on_credits",
    *(f"slackwater_resource_{name}" for name in ("in_use", "limit", "waiting")),
    "slackwater_waiting",
    "slackwater_runs",
    "slackwater_slices",
    "slackwater_messages",
    "slackwater_holds",
    "slackwater_pause_queue_entries",
    "slackwater_pause_queue_stuck",
    "slackwater_pause_queue_chords_expiring",
    "slackwater_workers",
    "slackwater_in_hand",
    "slackwater_fleet_version",
    "slackwater_scrape_errors",
}
FLAGS = {  # 0 or 1
    "slackwater_fleet_paused",
    "slackwater_gate_degraded",
    *(f"slackwater_node_{name}" for name in ("online", "consuming", "saturated", "held")),
    "slackwater_gpu_usable",
    "slackwater_in_hand_readable",
    "slackwater_queue_unserved",
    "slackwater_resource_state",
}


def test_names_follow_the_conventions(scrape):
    told = scrape()

    assert len(told.families) > 40
    for name, family in told.families.items():
        assert re.fullmatch(r"slackwater_[a-z][a-z_]*[a-z]", name), name
        assert family.documentation.endswith("."), name
        if family.type == "gauge":
            assert name.endswith(UNITS) or name in COUNTED | FLAGS, name
            assert not name.endswith("_total"), name
        elif family.type == "histogram":
            assert name.endswith("_seconds"), name
        else:
            assert family.type == "counter", name
            assert f"# TYPE {name}_total counter" in told.text, name
    for name, metric in metrics.catalogue.items():
        assert name.endswith("_total" if isinstance(metric, metrics.Counter) else "_seconds"), name


def test_a_scrape_takes_the_same_few_statements_however_much_there_is(scrape):
    def read() -> int:
        with CaptureQueriesContext(connection) as captured:
            exposition.read()
        return len(captured)

    def statements() -> int:
        return min(read() for _ in range(3))  # some facts are kept for seconds, and read anew in between

    make_run(items=2)
    make_node("n1")
    holds.place(["queue:a"], actor=OPERATOR)
    few = statements()
    for name in ("n1", *(f"more-{n}" for n in range(5))):
        make_node(name)  # "n1" again: its live sample ends after some seconds
    holds.place([f"queue:{n}" for n in range(20)], actor=OPERATOR)
    for n in range(10):
        run = make_run(items=2, start=n % 2 == 0)
        lifecycle.pause(run.pk, actor=OPERATOR)

    assert statements() == few
    assert few < 100


MANY = 20_000
FINISHED = f"""
    INSERT INTO automation_automationrun (id, site_id, pipeline, params, lifecycle, created_by, priority,
           ignores_capacity, total_items, started_at, finished_at, paused_seconds, cancel_requested_by, failure)
    SELECT gen_random_uuid(), %(site)s, 'numbers', '{{}}', 'completed', 'x', 3, false, 10, now(), now(), 0, '', ''
      FROM generate_series(1, {MANY});
    INSERT INTO automation_stagerun (run_id, slug, position, lifecycle, total_items, started_at, finished_at,
           paused_seconds_at_start, paused_seconds_at_end)
    SELECT id, 'echo', 0, 'completed', 10, now(), now(), 0, 0 FROM automation_automationrun
     WHERE finished_at IS NOT NULL;
    INSERT INTO automation_workslice (stage_run_id, phase, ordinal, first_key, last_key, size, cursor, processed,
           failed, busy_seconds, finished_at, crashes, lease_owner, lease_node, lease_gpus, lease_yield)
    SELECT id, 1, 1, 'a', 'b', 10, 'b', 10, 0, 1, now(), 0, '', '', '{{}}', '' FROM automation_stagerun
     WHERE lifecycle = 'completed' AND position = 0;
    INSERT INTO pause_manager_hold (scope, kind, mode, reason, actor, idempotency_key, on_expiry, released_at,
           released_by, release_reason)
    SELECT 'run:' || id, 'operator', 'quiesce', '', 'x', '', 'resume', now(), 'x', '' FROM automation_automationrun
     WHERE finished_at IS NOT NULL;
    INSERT INTO pause_manager_pausequeueentry (ref, task_name, args, kwargs, queue, priority, needs, reason, attempts,
           finished_at, outcome)
    SELECT 'run:' || id, 't', '[]', '{{}}', 'q', 3, '{{}}', '', 0, now(), 'sent' FROM automation_automationrun
     WHERE finished_at IS NOT NULL;
    ANALYZE automation_automationrun, automation_stagerun, automation_workslice, pause_manager_hold,
            pause_manager_pausequeueentry
"""
LARGE = (
    "automation_automationrun",
    "automation_stagerun",
    "automation_workslice",
    "pause_manager_hold",
    "pause_manager_pausequeueentry",
    "automation_workitem",
)


def test_nothing_that_is_finished_is_looked_at(site_with_history):
    plans = {}
    with connection.cursor() as cursor:
        figures = (waiting.STATEMENT, allocations.STOPPED, parked_tasks.REASONS, parked_tasks.UNSERVED)
        for statement in (*automation.gauges.STATEMENTS, *pause_manager.gauges.STATEMENTS, *figures):
            named = {**pending.values(), **waiting.values(), "queues": ["nowhere"]}
            values: Any = [30.0] * statement.count("%s") or named
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
            plans[statement] = cursor.fetchone()[0][0]["Plan"]

    for statement, plan in plans.items():
        for node in walk(plan):
            if node.get("Relation Name") in LARGE:
                assert node["Node Type"] != "Seq Scan", statement
                seen = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
                assert seen < 100, (statement, node)


def walk(plan: dict[str, Any]) -> Any:
    yield plan
    for part in plan.get("Plans", ()):
        yield from walk(part)


@pytest.fixture
def site_with_history() -> Any:
    run = make_run(items=6)
    leased(run)
    paused = make_run(items=6)
    lifecycle.pause(paused.pk, actor=OPERATOR)
    holds.place(["queue:a"], actor=OPERATOR)
    manager.pause_work([WithheldDispatch("mine:1", "tests.nothing", "nowhere", Needs())], reason="no room")
    with connection.cursor() as cursor:
        cursor.execute(FINISHED.replace("%(site)s", str(run.site_id)))
    return run.site


def test_what_was_read_is_good_for_a_second(scrape):
    client = Client()
    client.get(METRICS)
    holds.place(["queue:a"], actor=OPERATOR)

    again = client.get(METRICS).content.decode()

    assert 'scope="queue"' not in again
    assert scrape().value("slackwater_holds", scope="queue", kind="operator", mode="quiesce") == 1


class TestAccess:
    @pytest.fixture(autouse=True)
    def options(self, settings: Any) -> None:
        self.settings = settings

    def given(self, **options: Any) -> None:
        self.settings.PAUSE_MANAGER = {**self.settings.PAUSE_MANAGER, **options}

    def status(self, client: Any = None, address: Any = "10.1.2.3", **headers: str) -> int:
        return (client or Client()).get(METRICS, REMOTE_ADDR=address, headers=headers).status_code

    def test_without_a_token_the_machine_itself_and_staff_may_read(self):
        staff, member = Client(), Client()
        staff.force_login(User.objects.create_user("sue", is_staff=True))
        member.force_login(User.objects.create_user("mia"))

        assert self.status(address="127.0.0.1") == self.status(address="::1") == 200
        assert self.status(staff) == 200
        assert self.status() == self.status(member) == self.status(address="") == 401

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
    def test_who_comes_through_a_proxy_is_not_the_machine_itself(self, header):
        assert self.status(address="127.0.0.1", **{header: "127.0.0.1"}) == 401

    def test_networks_can_be_named(self):
        self.given(metrics_networks=("10.0.0.0/8",))

        assert self.status() == 200
        assert self.status(address="127.0.0.1") == 401

    def test_with_a_token_it_takes_the_token(self):
        self.given(metrics_token="sesame", metrics_networks=("10.0.0.0/8",))

        answer = Client().get(METRICS)
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")
        for wrong in ("Bearer sesam", "Bearer ", "Bearer", "sesame", "Basic sesame", "Bearer sésame"):
            assert self.status(Authorization=wrong) == 401
        assert self.status(Authorization="Bearer sesame") == 200
        assert Client().post(METRICS).status_code in (401, 405)


def test_openmetrics_is_told_to_who_asks_for_it():
    answer = Client().get(METRICS, headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.rstrip().endswith(b"# EOF")
