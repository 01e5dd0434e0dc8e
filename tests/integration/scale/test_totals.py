"""What is kept beside the slices and the sites agrees with them, whoever changed these and however that ended."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.db.models import Count, Q, Sum

from automation import leases
from automation.models import Account, AutomationRun, SliceTotals, WorkSlice
from automation.reports import slice_totals
from pause_manager import fleet
from tests.support.factories import claim, drain, leased, make_run, make_site, run_loop, stage_of
from tests.support.pipelines import scripted

pytestmark = pytest.mark.django_db(transaction=True)


def counted() -> set[tuple[int, int, int, int, int]]:
    """The totals, counted."""
    is_open = Q(finished_at__isnull=True)
    rows = WorkSlice.objects.order_by().values("stage_run_id", "phase")
    found = rows.annotate(
        open=Count("pk", filter=is_open),
        done=Sum("processed", filter=~is_open, default=0),
        lost=Sum("failed", filter=~is_open, default=0),
    )
    return set(found.values_list("stage_run_id", "phase", "open", "done", "lost"))


def kept() -> set[tuple[int, int, int, int, int]]:
    return set(SliceTotals.objects.values_list("stage_run_id", "phase", "open", "processed", "failed"))


def test_the_totals_agree_with_the_slices_after_anything():
    drain(make_run("fan-out", items=20))
    drain(make_run("failing", items=20))
    at_work = make_run("scripted", items=20)
    with scripted(lambda item, ctx: None):
        run_loop(at_work)
    half = make_run("scripted", items=20)
    work = leased(half)
    leases.postpone(work, 60, "a provider")
    assert kept() == counted()
    assert {total[2] for total in kept()} >= {0, 4}

    with transaction.atomic():
        WorkSlice.objects.filter(stage_run__run=half).delete()
        assert kept() == {*counted(), (stage_of(half).pk, 1, 0, 0, 0)}
        transaction.set_rollback(True)
    assert kept() == counted()
    WorkSlice.objects.filter(finished_at__isnull=False).update(finished_at=None)
    assert kept() == counted()


def test_what_is_done_is_that_of_finished_and_of_begun_slices():
    run = make_run("scripted", items=12)
    seen = []

    def look(item, ctx):
        seen.append((item["n"] - 1, slice_totals.done(stage_of(run).pk)))

    with scripted(look):
        run_loop(run)

    assert [(n, (n, 0)) for n in range(12)] == seen


def test_slices_that_end_at_one_time_are_all_counted():
    """Two connections finish slices of one stage; each waits for the other's count and none is lost."""
    run = make_run("scripted", items=200)
    stage = stage_of(run)
    halves = [list(stage.slices.order_by("pk").values_list("pk", flat=True))[n::2] for n in (0, 1)]

    def finish(pks):
        for pk in pks:
            WorkSlice.objects.filter(pk=pk).update(finished_at="2026-01-01T00:00:00Z")
        connection.close()

    threads = [threading.Thread(target=finish, args=(half,)) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert kept() == counted() == {(stage.pk, 1, 0, 0, 0)}


def test_the_switch_counts_what_is_due_as_before():
    """Queued: slices of the first open phase, free and due, of running runs that are not being cancelled."""
    runs = [make_run("hooked", items=6), make_run("scripted", items=20), make_run("scripted", items=20)]
    later = leased(runs[1])
    leases.postpone(later, 600, "a provider")
    assert claim(runs[2]) is not None

    metrics = fleet.snapshot()["metrics"]

    assert (metrics["queued"], metrics["running"]) == (1 + 3 + 3, 1)


def test_a_run_belongs_to_the_account_of_its_site_also_after_that_has_moved():
    site = make_site("ours")
    run, other = make_run(site=site), make_run(site=make_site("theirs"))
    new = Account.objects.create(name="new")

    site.account = new
    site.save()

    accounts = dict(AutomationRun.objects.values_list("pk", "account"))
    assert accounts == {run.pk: new.pk, other.pk: other.site.account_id}
