"""Whose fault it is: what counts against an item, what against its stage, and what against nobody."""

from __future__ import annotations

import asyncio
from itertools import islice

import gevent
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection

from automation import dispatch, gate, leases
from automation.items import store
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.leases.renewals import Loop
from automation.models import ItemFailure, Lifecycle, StageRun, Ticket, WorkSlice
from automation.pipeline import TryLater
from automation.runs import reconciler
from pause_manager.slots import slot_table
from tests.support.factories import drain, events, expire_leases, leased, make_run, outputs, run_loop, settle, stage_of
from tests.support.lost_loops import claim_as, die_on_an_item, fall_silent, may_claim, process
from tests.support.pipelines import BrokenHook, Buffered, Hooked, Scripted, Strict, Sum, scripted
from tests.support.refusing_database import database_that_refuses

pytestmark = pytest.mark.django_db(transaction=True)


class PanicException(BaseException):
    """What a compiled extension raises when it panics."""


def failures() -> list[tuple[str, str, int]]:
    return [(one.key, one.error, one.attempts) for one in ItemFailure.objects.order_by("key")]


def commit_first(work: LeasedSlice, made: list[bytes] | None = None) -> None:
    """The item after the cursor is done."""
    assert work.source_id is not None
    [(key, _)] = islice(store.read(work.source_id, after=work.cursor), 1)
    checkpoint.commit(work, Progress(cursor=key, processed=1, outputs=made or []))


# -- an attempt -------------------------------------------------------------------------------------------------------


def test_whatever_an_item_raises_is_its_own_failure_after_the_declared_tries(monkeypatch):
    monkeypatch.setattr(Scripted, "retries", 1)
    monkeypatch.setattr(Scripted, "retry_backoff", 0)
    errors = [
        SystemExit(2),
        asyncio.CancelledError("the loop was closed"),
        PanicException("index out of bounds"),
        GeneratorExit(),
        KeyboardInterrupt(),
        gevent.Timeout(3),
        MemoryError("no room"),
    ]
    run = make_run("scripted", items=9)

    def script(item, ctx):
        if item["n"] <= len(errors):
            raise errors[item["n"] - 1]

    with scripted(script):
        drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert failures() == [(f"00{n}", f"{type(error).__name__}: {error}", 2) for n, error in enumerate(errors)]
    assert [output["n"] for output in outputs(run)] == [8, 9]
    assert not events(run, "worker_lost", "loop_failed")


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), SoftTimeLimitExceeded(60)], ids=repr)
def test_what_ends_the_loop_from_outside_is_not_the_items_fault(error, monkeypatch):
    run = make_run("scripted", items=5)

    def script(item, ctx):
        if item["n"] == 3:
            if not isinstance(error, Exception):
                slot_table.stop_mine()  # as the handler of SIGTERM does
            raise error

    monkeypatch.setattr(slot_table, "_is_ending", False)
    with scripted(script), pytest.raises(type(error)):
        run_loop(run)
    slot_table._is_ending = False

    row = WorkSlice.objects.get()
    assert (row.lease_token, row.crashes, row.cursor) == (None, 0, "001")
    assert not failures()
    assert not events(run, "loop_failed")
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("error", [SystemExit(2), PanicException("no")], ids=repr)
def test_whatever_a_hook_raises_fails_the_run_and_not_the_worker(error, monkeypatch):
    def prepare(self, ctx):
        raise error

    monkeypatch.setattr(BrokenHook, "prepare", prepare)

    run = drain(make_run("broken-hook"))

    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == f"Broken hook: prepare failed: {type(error).__name__}: {error}"


def test_each_try_gets_the_item_as_it_is_stored_and_so_does_its_failure(monkeypatch):
    monkeypatch.setattr(Scripted, "retries", 2)
    monkeypatch.setattr(Scripted, "retry_backoff", 0)
    run = make_run("scripted", items=[{"n": 1, "words": ["a"]}, {"n": 2, "words": ["b"]}])
    seen = []

    def script(item, ctx):
        seen.append(item.pop("words"))
        seen[-1].append("changed")
        if item["n"] == 2:
            del item["n"]
            raise ConnectionError("no answer")

    with scripted(script):
        drain(run)

    assert seen == [["a", "changed"], *[["b", "changed"]] * 3]
    assert [one.payload for one in ItemFailure.objects.all()] == [{"n": 2, "words": ["b"]}]


def test_an_output_that_is_too_large_is_the_items_failure_with_what_to_do(monkeypatch):
    monkeypatch.setattr(Scripted, "max_item_bytes", 2_000)
    monkeypatch.setattr(Scripted, "process", lambda self, item, ctx: [{"text": "x" * (item["n"] * 1_000)}])

    run = drain(make_run("scripted", items=3))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [key for key, _, _ in failures()] == ["001", "002"]
    assert failures()[0][1] == (
        "UnfitPayload: expected an output of at most 2,000 bytes, got: 2,011; "
        "keep it in ctx.artifacts, and its name in the output"
    )


@pytest.mark.parametrize("interval", [0, 0.001, 3_600])
def test_what_the_database_refuses_is_the_failure_of_the_item_it_came_from(interval, monkeypatch):
    monkeypatch.setattr(Buffered, "checkpoint_interval", interval)
    run = make_run("buffered", items=5)

    with database_that_refuses(3):
        drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 4, 5]
    [(key, error, _)] = failures()
    assert (key, error.splitlines()[0]) == (
        "002",
        "OperationalError: string too long to represent as jsonb string",
    )
    assert not events(run, "worker_lost", "loop_failed")


# -- lost loops -------------------------------------------------------------------------------------------------------


def test_leases_that_run_out_count_nothing_against_an_item(settings):
    run = make_run("scripted", items=5)

    for _ in range(3):
        assert fall_silent(run).cursor == ""
    rest = claim_as(run, "somebody")

    assert (rest.cursor, rest.left) == ("000", 4), "the item waits its turn alone, and the others go on"
    leases.release(rest)
    for _ in range(6):
        fall_silent(run)
    assert not failures()
    assert [event.details["counts"] for event in events(run, "worker_lost")] == [False] * 9
    [reason] = [one for one in gate.explain(run) if one.code == "loses_workers"][:1]
    assert "leases ended on it with nobody to blame" in reason.sentence
    assert gate.may_proceed(gate.explain(run))
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert sorted(output["n"] for output in outputs(run)) == [1, 2, 3, 4, 5]


def test_an_item_on_which_processes_die_is_tried_alone_before_it_is_given_up(monkeypatch):
    monkeypatch.setattr(Scripted, "__init__", lambda self: pytest.fail("who gives an item up needs no stage"))
    run = make_run("scripted", items=3)
    die_on_an_item(run)
    die_on_an_item(run)
    with process() as owner:
        rest = claim_as(run, owner)
        assert (rest.cursor, rest.left, rest.is_alone) == ("000", 2, False)
        assert may_claim(run, owner, is_fresh=False) is None, "no loop gets it that has done something else"
        leases.release(rest)
    row = WorkSlice.objects.get(crashes=2)
    assert (row.first_key, row.last_key, row.size) == ("000", "000", 1)
    WorkSlice.objects.exclude(pk=row.pk).update(available_at="2200-01-01T00:00Z")
    assert not failures()

    assert die_on_an_item(run).is_alone

    assert failures() == [("000", "WorkerLost: worker lost while processing", 3)]
    assert len(events(run, "worker_lost")) == 3
    assert len(events(run, "item_given_up")) == 1
    monkeypatch.undo()
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [2, 3]


def test_deaths_on_different_items_condemn_none():
    run = make_run("scripted", items=5)
    for _ in range(4):
        die_on_an_item(run)
        work = claim_as(run, "somebody")
        assert work.crashes == 1
        commit_first(work)
        leases.release(work)

    assert not failures()


def test_a_group_on_which_processes_die_is_given_up_as_a_whole(monkeypatch):
    monkeypatch.setattr(Sum, "slice_size", 8)
    run = make_run("grouped", items=[{"n": 3}, {"n": 3}])
    while stage_of(run).slug == "fan":
        run_loop(run)
    for _ in range(2):
        die_on_an_item(run)
    rest = claim_as(run, "somebody")
    assert (rest.cursor, rest.left) == ("001.000", 2)

    die_on_an_item(run)

    assert [key for key, _, _ in failures()] == ["000.000", "000.001", "000.002", "001.000"]


def test_a_hook_on_which_processes_die_fails_the_run():
    run = make_run("hooked", items=5)

    for _ in range(3):
        die_on_an_item(run)

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "hooked: prepare: failed 3 times: worker lost while processing"


def test_an_item_given_up_counts_towards_the_failures_that_are_allowed(monkeypatch):
    monkeypatch.setattr(Strict, "max_failures", 0)
    run = make_run("strict", items=1)

    for _ in range(3):
        die_on_an_item(run)

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.FAILED


@pytest.mark.parametrize("why", ["it was told to end", "its worker died too", "who renewed it is unknown"])
def test_a_death_that_proves_nothing_counts_nothing(why):
    run = make_run("scripted", items=1)
    for _ in range(4):
        with process() as keeper, process() as owner:
            work = claim_as(run, owner, keeper if why == "its worker died too" else "")
            if why == "it was told to end":
                leases.renew([Loop(work.stage_run_id, work.slice_id, work.token, is_told_to_end=True)])
            if why == "who renewed it is unknown":
                WorkSlice.objects.update(lease_keeper="")  # leased before there was such a column
        assert reconciler.reap() == 1

    assert not failures()
    row = WorkSlice.objects.get()
    assert (row.crashes, row.expiries, row.lease_excused) == (0, 4, False)


def test_a_process_that_lives_and_is_only_silent_keeps_its_lease_for_longer(settings):
    run = make_run("scripted", items=5)
    with process() as owner:
        claim_as(run, owner)
        expire_leases(run)
        assert reconciler.reap() == 0, "it lives, and may be keeping the interpreter"

        settings.AUTOMATION = {**settings.AUTOMATION, "silent_leases": 1.0}
        assert reconciler.reap() == 1, "but not for ever"

    assert WorkSlice.objects.get().expiries == 1


def test_a_lease_counts_from_when_the_outputs_are_written(settings):
    settings.AUTOMATION = {**settings.AUTOMATION, "lease_seconds": 1.0}
    run = make_run("scripted", items=5)
    work = claim_as(run, "somebody")
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(1.2); RETURN NEW; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER dawdle BEFORE INSERT ON automation_workitem FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
    try:
        commit_first(work, [b'000.000\t{"n":1}'])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION dawdle() CASCADE")

    assert leases.reap() == []


# -- patience ---------------------------------------------------------------------------------------------------------


def asking_for_patience(*numbers: int, seconds: float = 60.0):
    def script(item, ctx):
        if item["n"] in numbers:
            raise TryLater(seconds, "HTTP 429")

    return scripted(script)


def its_time_has_come() -> None:
    WorkSlice.objects.update(available_at=None)


def test_an_item_that_waits_waits_alone_and_people_are_told():
    run = make_run("scripted", items=5)

    with asking_for_patience(2):
        drain(run)
        assert [output["n"] for output in outputs(run)] == [1, 3, 4, 5]
        assert run.lifecycle == Lifecycle.RUNNING
        [reason] = [one for one in gate.explain(run) if one.code == "waits"]
        assert not reason.keeps
        assert reason.sentence.startswith("Item 001 of stage scripted waits, until ")
        assert reason.sentence.endswith(": HTTP 429")
        for _ in range(10):
            its_time_has_come()
            run_loop(run)

    told = [event.details["waits"] for event in events(run, "item_waits")]
    assert told == [1, 10]
    assert WorkSlice.objects.filter(waits=11, waited_seconds=660).count() == 1
    assert sum(WorkSlice.objects.values_list("size", flat=True)) == 5
    its_time_has_come()
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]


def test_when_the_next_item_must_wait_too_the_slice_waits_as_it_is():
    run = make_run("scripted", items=5)

    with asking_for_patience(2, 3, 4, 5):
        drain(run)
        for _ in range(3):
            its_time_has_come()
            run_loop(run)

    assert list(WorkSlice.objects.order_by("ordinal").values_list("size", "cursor", "waits")) == [
        (4, "001", 4),
        (1, "", 4),
    ]
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("declared", "seconds", "attempts", "said"),
    [
        ({"max_waits": 2}, 1, 3, "asked to be tried later 3 times, 2 are allowed: HTTP 429"),
        ({"max_wait_seconds": 100}, 60, 2, "asked to wait for 120 s in all, 100 s are allowed: HTTP 429"),
        ({}, 1e300, 1, "s in all, 86,400 s are allowed: HTTP 429"),
        ({}, float("inf"), 1, "asked to wait for inf s in all, 86,400 s are allowed: HTTP 429"),
    ],
    ids=["too often", "too long", "for ever", "infinitely"],
)
def test_patience_has_an_end(declared, seconds, attempts, said, monkeypatch):
    for name, value in declared.items():
        monkeypatch.setattr(Scripted, name, value)
    run = make_run("scripted", items=3)

    with asking_for_patience(2, seconds=seconds):
        for _ in range(3):
            drain(run)
            its_time_has_come()
            reconciler.reconcile()

    assert run.lifecycle == Lifecycle.COMPLETED
    [(key, error, tries)] = failures()
    assert (key, tries) == ("001", attempts)
    assert error.startswith("WaitLimitExceeded: ")
    assert error.endswith(said)


def test_a_hook_that_waits_has_an_end_too(monkeypatch):
    monkeypatch.setattr(Hooked, "max_waits", 1)

    def prepare(self, ctx):
        raise TryLater(60, "HTTP 503")

    monkeypatch.setattr(Hooked, "prepare", prepare)
    run = make_run("hooked", items=2)
    for _ in range(2):
        run_loop(run)
        its_time_has_come()

    run.refresh_from_db()
    assert run.failure == (
        "Hooked: prepare failed: WaitLimitExceeded: asked to be tried later 2 times, 1 are allowed: HTTP 503"
    )


# -- loops that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [FileNotFoundError("/models/llama.gguf"), SystemExit(3)], ids=repr)
def test_a_stage_that_cannot_be_made_is_told_and_in_the_end_fails_the_run(error, monkeypatch):
    told = f"{type(error).__name__}: {error}"
    monkeypatch.setattr(Scripted, "loop_retries", 2)

    def cannot(self):
        raise error

    monkeypatch.setattr(Scripted, "__init__", cannot)
    run = make_run("scripted", items=5)
    stage_run = stage_of(run)

    run_loop(run)
    run_loop(run)

    assert [event.reason for event in events(run, "loop_failed")] == [f"scripted: a loop failed, time 1: {told}"]
    stage_run.refresh_from_db()
    assert (stage_run.loop_failures, stage_run.loop_error) == (1, told)
    [reason] = [one for one in gate.explain(run) if one.code == "failing"]
    assert not reason.keeps
    assert reason.sentence.startswith("A loop of stage scripted has failed once; the next is sent for at ")
    assert reason.sentence.endswith(told)
    Ticket.objects.all().delete()
    assert dispatch.of_runs([run.pk]) == 0, "the next is sent for later"
    for _ in range(2):
        StageRun.objects.update(loop_retry_at=None)
        run_loop(run)

    run.refresh_from_db()
    assert (run.lifecycle, run.failure) == (Lifecycle.FAILED, f"scripted: 3 loops failed in a row: {told}")
    assert list(WorkSlice.objects.values_list("crashes", "expiries", "lease_token")) == [(0, 0, None)]
    assert not failures()


def test_the_last_of_loops_that_fail_together_ends_the_run(monkeypatch):
    monkeypatch.setattr(Scripted, "loop_retries", 0)
    monkeypatch.setattr(Scripted, "slice_size", 1)
    monkeypatch.setattr(Scripted, "setup", lambda self, ctx: 1 / 0)
    run = make_run("scripted", items=2)
    other = leased(run)

    run_loop(run)
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.RUNNING, "the other may succeed"
    leases.release(other)
    run_loop(run)

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "scripted: a loop failed: ZeroDivisionError: division by zero"
    assert len(events(run, "loop_failed")) == 1


def test_loops_that_fail_between_others_that_work_fail_no_run(monkeypatch):
    monkeypatch.setattr(Scripted, "loop_retries", 0)
    run = make_run("scripted", items=10)
    with process() as owner:
        claim_as(run, owner)
        monkeypatch.setattr(Scripted, "__init__", lambda self: 1 / 0)
        run_loop(run)
        run.refresh_from_db()
        assert run.lifecycle == Lifecycle.RUNNING, "somebody is at work in it"
        assert stage_of(run).loop_failures == 1
    monkeypatch.undo()

    StageRun.objects.update(loop_retry_at=None)
    assert settle(run).lifecycle == Lifecycle.COMPLETED

    assert not StageRun.objects.exclude(loop_failures=0).exists(), "one has worked since"
