"""In every state of a run with delays may_start, the claim, lists, the metric and those who send messages agree."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from automation import dispatch, gate, leases
from automation.api.runs.filters import by_status
from automation.gate import delays, pending
from automation.leases import claims
from automation.models import AutomationRun, StageRun, Ticket, WorkSlice
from automation.reports import explanation, status, waiting
from pause_manager import holds
from pause_manager.models.clock import database_now
from tests.support.factories import OPERATOR, make_run, stage_of, worker
from tests.support.lane_runs import again
from tests.support.paced_runs import BATCHES

pytestmark = pytest.mark.django_db(transaction=True)

DELAY = BATCHES["batch_delay_seconds"]
AGES = st.sampled_from([0, DELAY - 2, DELAY + 1, 10 * DELAY])
STATE = st.fixed_dictionaries(
    {
        "finished": st.integers(0, 3),
        "ago": AGES,
        "current": st.sampled_from([None, None, "given back", "leased", "its item waits", "an item is apart"]),
        "begins_in": st.sampled_from([None, None, -5, 60]),
        "is_paused": st.sampled_from([False, False, True]),
        "is_cancelled": st.sampled_from([False, False, False, True]),
        "is_apart": st.sampled_from([True, True, False]),
    }
)
PLAIN = {"finished": 1, "ago": 0, "current": None, "begins_in": None, "is_paused": False, "is_cancelled": False}


@pytest.fixture
def run() -> AutomationRun:
    return make_run(items=6, pace=BATCHES)


def lease(run: AutomationRun) -> Any:
    work = leases.claim(stage_of(run).pk, worker())
    assert work is not None
    return work


def put(state: dict[str, Any], run: AutomationRun) -> None:
    """Bring ``run``, of three batches, into ``state``."""
    stage, slices = StageRun.objects.filter(pk=stage_of(run).pk), WorkSlice.objects.filter(stage_run__run=run)
    for _ in range(state["finished"]):
        work = lease(run)
        slices.filter(pk=work.slice_id).update(
            finished_at=Now() - timedelta(days=1),
            lease_token=None,
            lease_expires_at=None,
            leased_at=None,
            cursor=work.last_key,
        )
    last = stage.get().batch_id
    if state["current"] is not None and state["finished"] < 3:
        work = lease(run)
        if state["current"] == "given back":
            leases.release(work)
        if state["current"] == "its item waits":
            leases.postpone(work, 600, "busy")
        if state["current"] == "an item is apart":
            leases.split_off(work, 1, seconds=600, why="busy")
            slices.filter(pk=work.slice_id).update(
                finished_at=Now() - timedelta(seconds=state["ago"]),
                lease_token=None,
                lease_expires_at=None,
                leased_at=None,
                cursor=work.last_key,
            )
    slices.filter(pk=last or 0, finished_at__isnull=False).update(finished_at=Now() - timedelta(seconds=state["ago"]))
    is_new = not state["finished"] and state["current"] is None
    begins_in = state["begins_in"] if is_new or state["begins_in"] != 60 else -60
    stage.update(begins_at=None if begins_in is None else Now() + timedelta(seconds=begins_in))
    if not state.get("is_apart", True):
        definition: dict[str, Any] = stage.get().definition or {}
        stage.update(definition={**definition, "batch_delay": 0.0})
    if state["is_paused"]:
        holds.place([run.scope], actor=OPERATOR)
    if state["is_cancelled"]:
        AutomationRun.objects.filter(pk=run.pk).update(cancel_requested_at=Now())
    Ticket.objects.all().delete()


def would_work(run: AutomationRun) -> bool:
    with transaction.atomic():
        work = leases.claim(StageRun.objects.get(run=run, position=0).pk, worker("b"))
        transaction.set_rollback(True)
    return work is not None


def messages(run: AutomationRun) -> int:
    with transaction.atomic():
        sent = dispatch.dispatch()
        transaction.set_rollback(True)
    return sent


def check_agreement(run: AutomationRun, state: dict[str, Any]) -> None:
    with transaction.atomic():
        put(state, run)
        now = AutomationRun.objects.with_leases().get(pk=run.pk)
        open_slices = WorkSlice.objects.open().filter(stage_run__run=run)
        at_work = open_slices.leased().exists()
        # What was begun and whose item asks for patience keeps nobody; there is nothing to lease just the same.
        has_work = open_slices.filter(lease_token=None, available_at=None).exists()
        is_begun = open_slices.filter(is_begun=True, lease_token=None, available_at=None).exists()
        is_apart = state.get("is_apart", True)
        batch = WorkSlice.objects.filter(pk=StageRun.objects.get(run=run, position=0).batch_id or 0).first()
        hands_out = not is_apart or batch is None or batch.finished_at is not None

        explained = explanation.of_run(again(run))
        kept = AutomationRun.objects.filter(pk__in=pending.kept_ids()).exists()
        wait_list = by_status(AutomationRun.objects.with_leases(), status.WAITING).exists()

        can = has_work and (hands_out or is_begun) and not (at_work and is_apart)
        assert would_work(run) == (explained.may_start and can), [one.sentence for one in explained.reasons]
        assert (messages(run) > 0) == (explained.may_start and can)
        assert (gate.blocked([now]) == {run.pk}) == (not explained.may_start)
        if not at_work and not state["is_cancelled"]:
            assert kept == (not explained.may_start)
        if not at_work and not state["is_cancelled"] and not state["is_paused"]:
            assert wait_list == (not explained.may_start) == (status.of(now) == "waiting")
        delayed = [one for one in explained.reasons if one.code == "delay"]
        if delayed:
            assert not at_work
            at = database_now()
            assert explained.expected_start is None or at < explained.expected_start <= at + timedelta(seconds=60)
            first = next(one for one in explained.reasons if one.keeps)
            assert open_slices.exists()
            if first.code == "delay":
                assert waiting.by_reason() == {"delay": 1}
        transaction.set_rollback(True)


@pytest.mark.req("S-14")
@settings(
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
    deadline=None,
)
@given(STATE)
@example(PLAIN)
@example({**PLAIN, "ago": DELAY + 1})
@example({**PLAIN, "ago": DELAY + 1, "is_apart": False})
@example({**PLAIN, "current": "leased"})
@example({**PLAIN, "current": "an item is apart"})
@example({**PLAIN, "finished": 3})
@example({**PLAIN, "finished": 0, "begins_in": 60})
def test_all_who_judge_a_delay_agree(run: AutomationRun, state: dict[str, Any]):
    check_agreement(run, state)


@pytest.mark.slow
def test_the_check_finds_a_claim_that_knows_no_delays(run: AutomationRun, monkeypatch: pytest.MonkeyPatch):
    blind = claims._OPEN.replaced(delays.HANDS_OUT, "true").replaced(delays.BETWEEN_BATCHES, "false")
    monkeypatch.setattr(claims, "_OPEN", blind)

    with pytest.raises(AssertionError):
        check_agreement(run, PLAIN)
