"""The fleet switch as the services see it: the row, its versions, what is refused, what is recorded."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from automation import gate, leases
from automation.models import Lifecycle, WorkSlice
from automation.runs import reconciler
from pause_manager import fleet, holds
from pause_manager.actor import Actor
from pause_manager.errors import FleetRefused, InvalidFleetCommand, InvalidHold
from pause_manager.fleet import drain
from pause_manager.holds import fleet_state
from pause_manager.models import ControlEvent, ControlState, FleetWorker, Hold
from pause_manager.nodes import members, serving
from pause_manager.tasks import expire_holds
from tests.support import factories
from tests.support.factories import (
    OPERATOR,
    claim,
    everybody_has_heard,
    expire_leases,
    leased,
    make_run,
    rows,
    run_loop,
    settle,
    tickets,
)
from tests.support.pipelines import scripted
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM_KEYS = {"workersPaused", "mode", "reason", "version", "requestedByUserId", "requestedAt", "updatedAt"}


def pause(mode: str = "drain", reason: str = "upgrade", **options):
    return fleet.pause(mode=mode, reason=reason, actor=OPERATOR, **options)


def resume(reason: str = "done", **options):
    return fleet.resume(reason=reason, actor=OPERATOR, **options)


def events(*actions: str):
    found = ControlEvent.objects.filter(scope="fleet").order_by("pk")
    return list(found.filter(action__in=actions) if actions else found)


def refused(verb, **options) -> str:
    with pytest.raises(FleetRefused) as refusal:
        verb(**options)
    return refusal.value.code


@pytest.mark.req("W-01")
def test_the_migration_leaves_the_row_and_a_missing_one_is_made_again():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM pause_manager_controlstate")
        cursor.execute(import_module("pause_manager.migrations.0005_fleet").CREATE_ROW)
    assert ControlState.objects.values_list("pk", "version", "is_paused").get() == (1, 1, False)
    ControlState.objects.all().delete()

    assert set(fleet.state().as_dict()) == SYSTEM_KEYS
    assert (fleet.state().version, fleet.state().is_paused) == (1, False)
    with pytest.raises(IntegrityError):
        ControlState.objects.create(pk=2)


@pytest.mark.req("W-01")
def test_a_row_that_is_lost_during_a_pause_comes_back_paused_and_counts_on():
    pause("quiesce")
    version = pause("drain").version
    ControlState.objects.all().delete()

    state = fleet.state()

    assert (state.is_paused, state.mode, state.version) == (True, "drain", version)
    assert resume().version == version + 1


@pytest.mark.req("W-03")
@pytest.mark.req("W-04")
@pytest.mark.req("W-08")
def test_every_accepted_change_is_one_version_and_one_event_and_refusals_are_on_record():
    first = fleet.state().version

    assert refused(resume) == "worker_pause_not_paused"
    paused = pause(reason="upgrade")
    assert refused(pause, reason="upgrade") == "worker_pause_unchanged"
    pause("quiesce", reason="upgrade")
    pause("quiesce", reason="hurry")
    resumed = resume("done")

    assert (paused.version, resumed.version) == (first + 1, first + 4)
    assert (resumed.is_paused, resumed.mode, resumed.reason) == (False, "", "done")
    told = [(event.action, event.details.get("mode"), event.reason, event.actor) for event in events()]
    assert told == [
        ("resume_refused", None, "done", "user:olga"),
        ("hold_placed", "drain", "upgrade", "user:olga"),
        ("pause_refused", None, "upgrade", "user:olga"),
        ("hold_altered", "quiesce", "upgrade", "user:olga"),
        ("hold_altered", "quiesce", "hurry", "user:olga"),
        ("hold_released", "quiesce", "done", "user:olga"),
    ]
    versions = [event.details["version"] for event in events("hold_placed", "hold_altered", "hold_released")]
    assert versions == list(range(first + 1, first + 5))
    assert [change["action"] for change in fleet.snapshot()["audit"]["latest"]] == ["resume", "pause", "pause", "pause"]


def test_who_asked_and_when_is_kept_with_the_state():
    state = fleet.pause(mode="drain", reason="upgrade", actor=Actor("user:olga", "api", "request-7", "42"))

    assert state.as_dict()["requestedByUserId"] == "42"
    assert state.requested_by == "user:olga"
    assert state.requested_at is not None
    assert events("hold_placed")[0].request_id == "request-7"


@pytest.mark.req("W-07")
@pytest.mark.parametrize(
    "options", [{"mode": "stop"}, {"mode": ""}, {"reason": "  "}, {"mode": "quiesce", "deadline": timedelta(minutes=1)}]
)
def test_nonsense_is_refused_and_leaves_no_trace(options):
    with pytest.raises(InvalidFleetCommand):
        pause(**options)
    with pytest.raises(InvalidFleetCommand):
        resume("")

    assert not events()
    assert not Hold.objects.exists()


@pytest.mark.req("W-02")
def test_operators_at_once_get_versions_one_apart_and_one_event_each():
    first = fleet.state().version

    def toggle(name: str):
        def work():
            accepted = []
            for turn in range(5):
                for verb, options in ((fleet.pause, {"mode": "drain"}), (fleet.resume, {"force": True})):
                    try:
                        made = verb(reason=f"{name} {turn}", actor=Actor(f"user:{name}", "test"), **options)
                        accepted.append(made.version)
                    except FleetRefused:
                        pass
            return accepted

        return work

    versions = sorted(version for accepted in race(*map(toggle, "abcd")) for version in accepted)

    assert versions == list(range(first + 1, first + 1 + len(versions)))
    changes = events("hold_placed", "hold_altered", "hold_released")
    assert [event.details["version"] for event in changes] == versions
    assert fleet.state().version == versions[-1]
    assert fleet.state().is_paused == Hold.objects.active().exists()


@pytest.mark.req("W-47")
def test_the_same_key_gets_the_same_answer_and_changes_nothing():
    paused = pause(idempotency_key="one")

    assert pause(idempotency_key="one").version == paused.version
    assert refused(pause, idempotency_key="two") == "worker_pause_unchanged"
    assert len(events("hold_placed", "hold_altered")) == 1


@pytest.mark.req("W-09")
@pytest.mark.req("W-18")
@pytest.mark.req("W-19")
def test_resume_waits_for_what_is_at_work_unless_forced():
    run = make_run("few", items=5)
    work = leased(run)
    pause()

    metrics = drain.measure("drain")
    assert (metrics.queued, metrics.running, metrics.stale_running, metrics.is_drained) == (4, 1, 0, False)
    [blocker] = metrics.blockers
    assert (blocker.ref, blocker.stage, blocker.worker, blocker.item) == (run.scope, "few", "test/a", "000")
    assert refused(resume) == "worker_pause_not_drained"
    expire_leases(run)
    metrics = drain.measure("drain")
    assert (metrics.queued, metrics.running, metrics.stale_running, metrics.is_drained) == (4, 0, 1, False)
    assert refused(resume) == "worker_pause_not_drained"

    leases.release(work)
    assert drain.measure().is_drained
    assert not resume().is_paused
    assert [event.details["running"] for event in events("hold_placed")] == [1]


def test_a_forced_resume_says_so():
    leased(make_run("few", items=5))
    pause()

    resume(force=True, confirmation="I know")

    [event] = events("hold_released")
    assert (event.details["forced"], event.details["confirmation"], event.details["running"]) == (True, "I know", 1)


@pytest.mark.req("W-11")
def test_while_paused_no_lost_lease_goes_back_into_the_queue():
    run = make_run("few", items=5)
    leased(run)
    pause()
    expire_leases(run)
    before = rows(run)

    assert reconciler.reap() == 0
    assert leases.reap(["test/a"]) == []
    reconciler.reconcile()
    assert rows(run) == before
    assert drain.measure().stale_running == 1

    resume(force=True)
    assert reconciler.reap() == 1
    assert settle(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("W-10")
def test_a_claim_while_paused_runs_no_claim_query():
    run = make_run("few", items=5)
    with CaptureQueriesContext(connection) as open_:
        leases.release(leased(run))
    pause()

    with CaptureQueriesContext(connection) as shut:
        assert claim(run) is None

    assert any("SKIP LOCKED" in query["sql"] for query in open_)
    assert not any("SKIP LOCKED" in query["sql"] or "UPDATE automation" in query["sql"] for query in shut)


@pytest.mark.req("W-28")
@pytest.mark.parametrize("scope", ["fleet", "queue:stages"])
def test_an_event_tells_when_work_parks_and_when_it_goes_on(scope):
    run, other = make_run("scripted", items=5), make_run("few", items=5)

    def hold(item, ctx):
        if item["n"] == 2:
            holds.place([scope], actor=OPERATOR, reason="upgrade")
            everybody_has_heard()

    with scripted(hold):
        run_loop(run)
    assert [event.details["code"] for event in factories.events(run, "stopped", "continued")] == ["held"]

    holds.release([scope], actor=OPERATOR, reason="done")

    [went_on] = factories.events(run, "continued")
    assert (went_on.actor, went_on.reason) == ("user:olga", "done")
    assert not factories.events(other, "continued"), "it was not stopped"


@pytest.mark.req("W-46")
@pytest.mark.req("W-50")
def test_a_new_run_is_accepted_and_starts_after_the_resume():
    pause()

    run = make_run("few", items=3)

    assert (run.lifecycle, tickets(run)) == (Lifecycle.PENDING, 0)
    assert [reason.code for reason in gate.explain(run)] == ["fleet"]
    resume()
    run.refresh_from_db()
    assert factories.drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("W-29")
def test_a_run_hold_and_the_switch_are_lifted_apart():
    run = make_run("few", items=3)
    holds.place([run.scope], actor=OPERATOR)
    pause()

    resume()
    assert claim(run) is None
    assert not fleet.state().is_paused

    pause()
    holds.release([run.scope], actor=OPERATOR)
    assert claim(run) is None
    resume()
    assert claim(run) is not None


def test_a_drain_becomes_a_quiesce_at_its_deadline():
    version = pause(deadline=timedelta(hours=1)).version
    assert fleet.snapshot()["deadline"] is not None
    expire_holds()
    assert fleet.state().mode == "drain"
    Hold.objects.active().update(expires_at="2020-01-01T00:00:00Z")

    expire_holds()
    expire_holds()

    state = fleet.state()
    assert (state.mode, state.version, state.reason) == ("quiesce", version + 1, "upgrade")
    assert state.requested_by == "user:olga"
    [event] = events("hold_altered")
    assert (event.actor, event.before["mode"], event.details["version"]) == ("system", "drain", version + 1)
    assert fleet.snapshot()["deadline"] is None


def test_a_deadline_can_be_moved():
    version = pause(deadline=timedelta(hours=1)).version

    assert pause(deadline=timedelta(hours=2)).version == version + 1


def test_the_row_follows_the_hold_whoever_changes_it():
    version = fleet.state().version
    holds.place(["fleet"], kind=Hold.Kind.BUDGET, actor=OPERATOR, reason="broke")
    assert (fleet.state().is_paused, fleet.state().version) == (False, version)

    holds.place(["fleet", "queue:x"], actor=OPERATOR, reason="storm", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert (fleet.state().is_paused, fleet.state().mode, fleet.state().version) == (True, "quiesce", version + 1)

    holds.expire()
    assert (fleet.state().is_paused, fleet.state().version) == (False, version + 2)
    with pytest.raises(InvalidHold):
        holds.alter(["fleet"], mode="drain", actor=OPERATOR, reason="")


@pytest.mark.req("W-20")
@pytest.mark.req("W-39")
def test_what_cannot_be_read_counts_as_paused_and_as_not_drained():
    version = fleet.state().version
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE pause_manager_controlstate RENAME TO hidden")
        cursor.execute("ALTER TABLE automation_workslice RENAME TO hidden_slices")
    try:
        with transaction.atomic():
            state, metrics = fleet.state(), drain.measure()
            assert Hold.objects.count() == 0, "the transaction of the caller goes on"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE hidden RENAME TO pause_manager_controlstate")
            cursor.execute("ALTER TABLE hidden_slices RENAME TO automation_workslice")

    assert (state.is_paused, state.is_readable, state.version) == (True, False, version)
    assert not metrics.is_drained
    assert metrics.as_dict() == {
        "status": "unavailable",
        "queued": None,
        "running": None,
        "staleRunning": None,
        "unreported": None,
        "isDrained": False,
    }
    assert fleet.state() == fleet_state.read() != state


@pytest.mark.req("W-27")
def test_work_that_outlasts_a_quiesce_is_named(caplog):
    run = make_run("few", items=5)
    leased(run)
    pause("quiesce")
    fleet.maintain()
    assert not fleet.snapshot()["warnings"]
    ControlState.objects.update(mode_since="2020-01-01T00:00:00Z")

    with caplog.at_level(logging.WARNING, "pause_manager.fleet.switch"):
        fleet.maintain()
        fleet.maintain()

    [warning] = [record.message for record in caplog.records if record.name == "pause_manager.fleet.switch"]
    assert all(word in warning for word in (run.scope, "000", "node-1", "few"))
    assert any(run.scope in said for said in fleet.snapshot()["warnings"])
    assert run.scope not in str(fleet.snapshot(with_blockers=False)["warnings"])


@pytest.mark.req("W-49")
def test_workers_are_counted_by_the_version_that_they_obey(settings):
    version = pause().version
    members.acknowledge("a@one", node="one", queues=["stages"], version=version)
    members.acknowledge("b@one", node="one", queues=["gpu"], version=version - 1)
    members.acknowledge("c@two", node="two", queues=[], version=version)
    members.acknowledge("d@two", node="two", queues=[], version=version)
    seen_before("c@two", seconds=12)
    seen_before("d@two", seconds=31)

    workers = members.of_version(version)

    assert (workers.total, workers.acknowledged) == (3, 1)
    assert [(one["name"], one["acknowledgedVersion"]) for one in workers.lagging] == [("b@one", version - 1)]
    assert [(one["name"], one["acknowledgedVersion"]) for one in workers.lost] == [("c@two", version)]
    assert serving.queues() == ["gpu", "stages"]
    assert "b@one" in str(fleet.snapshot()["warnings"])
    members.leave("b@one")
    assert members.of_version(version).total == 2


def seen_before(name: str, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pause_manager_fleetworker SET last_seen_at = statement_timestamp() - make_interval(secs => %s) "
            "WHERE name = %s",
            [seconds, name],
        )


@pytest.mark.req("W-16")
def test_the_snapshot_says_the_same_to_the_database_however_much_waits(django_assert_max_num_queries):
    run = make_run("few", items=10)
    leased(run)
    pause()
    with django_assert_max_num_queries(16) as few:
        fleet.snapshot()
    make_run("few", items=10)
    stage = run.stages.get(slug="few")
    WorkSlice.objects.bulk_create(
        [WorkSlice(stage_run=stage, ordinal=n, size=1, first_key=f"{n}", last_key=f"{n}") for n in range(100, 1_100)]
    )

    with django_assert_max_num_queries(16) as many:
        told = fleet.snapshot()

    assert len(few) == len(many)
    assert told["metrics"]["queued"] == 9 + 1_000
    assert FleetWorker.objects.count() == 0


@pytest.mark.django_db
def test_workers_of_the_release_before_go_on_reporting_on_this_schema():
    """Their statement, as it was: it names a column of its own, and the unique one that it updates by."""
    theirs = """
        INSERT INTO pause_manager_fleetworker AS worker
               (name, node, queues, acknowledged_version, acknowledged_at, last_seen_at)
        VALUES ('old@one', 'one', '{stages}', %s, clock_timestamp(), clock_timestamp())
            ON CONFLICT (name) DO UPDATE
           SET last_seen_at = clock_timestamp(), acknowledged_version = excluded.acknowledged_version
    """
    with connection.cursor() as cursor:
        for version in (1, 2):
            cursor.execute(theirs, [version])
    members.acknowledge("old@one", node="one", queues=["stages"], version=2, owner="here/1/2")

    assert members.of_version(2).acknowledged == 2

    members.leave("old@one", "here/1/2")
    assert members.of_version(2).total == 1
