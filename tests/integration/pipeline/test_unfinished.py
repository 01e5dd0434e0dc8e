"""What an item commits before it ends: nobody sees half of it, and nothing of it is done again or twice."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from automation.items import partial_items, store
from automation.models import AutomationRun, ItemChunk, ItemFailure, ItemState, WorkItem, WorkSlice
from automation.pipeline import TryLater
from automation.pipeline.context import StageContext
from automation.reports import status
from automation.runs import failing, lifecycle, reconciler
from tests.support.factories import OPERATOR, drain, events, everybody_has_heard, make_run, outputs, run_loop, settle
from tests.support.pipelines import Hooked
from tests.support.unfinished_pipelines import Fickle, during

pytestmark = pytest.mark.django_db(transaction=True)

LONG = [{"name": "a", "epochs": 3}, {"name": "b", "epochs": 4}]
LONG_STEPS = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("b", 3)]
LONG_OUTPUTS = [{"name": name, "epoch": epoch} for name, epoch in LONG_STEPS]


STANDING_FOR_ALL = (("a", 0), ("b", 0), ("b", 3))
"""The first step, the one after another item's end, and the last."""
AT_EACH_STEP = pytest.mark.parametrize(
    "at", [pytest.param(step, marks=[] if step in STANDING_FOR_ALL else [pytest.mark.slow]) for step in LONG_STEPS]
)


class Once:
    """Meddles at one step, the first time that it is met."""

    def __init__(self, at: tuple[str, int], act: Any) -> None:
        self._item, self._step = at
        self._act = act
        self.is_done = False

    def __call__(self, step: int, ctx: StageContext) -> None:
        is_here = "abc"[int(ctx.item_key.split(".")[0])] == self._item and step == self._step
        if is_here and not self.is_done:
            self.is_done = True
            self._act()


def nothing_is_left() -> bool:
    return not ItemState.objects.exists() and not ItemChunk.objects.exists()


def pause(run: AutomationRun) -> None:
    lifecycle.pause(run.pk, actor=OPERATOR)
    everybody_has_heard()


def lose(run: AutomationRun) -> None:
    """The loop's slice is nobody's, and soon somebody else's."""
    held = WorkSlice.objects.filter(stage_run__run=run, lease_token__isnull=False)
    assert held.update(lease_token=None, leased_at=None, lease_expires_at=None, lease_owner="") == 1


@AT_EACH_STEP
def test_a_pause_stops_in_the_middle_of_an_item_which_goes_on_from_there(at):
    run = make_run("long-train", LONG)

    with during(Once(at, lambda: pause(run))) as steps:
        drain(run)
        assert steps == LONG_STEPS[: LONG_STEPS.index(at) + 1]
        assert not WorkItem.objects.filter(made_by__slug="train", payload__name="b").exists()
        assert status.of(AutomationRun.objects.with_leases().get(pk=run.pk)) == "paused"

        lifecycle.resume(run.pk, actor=OPERATOR)
        run = settle(run)

        assert steps == LONG_STEPS
    assert run.lifecycle == "completed"
    assert outputs(run, "train") == outputs(run) == LONG_OUTPUTS
    assert nothing_is_left()


@AT_EACH_STEP
def test_a_lost_lease_repeats_nothing_before_the_last_checkpoint(at):
    run = make_run("long-train", LONG)

    with during(Once(at, lambda: lose(run))) as steps:
        run = settle(run)

    assert [step for step in steps if step[0] == "b"].count(at) <= 2
    assert len(steps) - len(set(steps)) <= 1 + (at[0] == "b") * 3  # a is done again where b was lost before it stood
    assert outputs(run) == LONG_OUTPUTS
    assert nothing_is_left()


def test_a_worker_that_lost_its_lease_commits_no_state():
    run = make_run("long-train", LONG)
    seen: list[Any] = []

    def lose_and_look() -> None:
        lose(run)
        seen.extend(ItemState.objects.values_list("state", flat=True))

    with during(Once(("a", 1), lose_and_look)):
        run_loop(run)

    assert seen == [{"epoch": 1}]
    assert list(ItemState.objects.values_list("state", flat=True)) == [{"epoch": 1}]
    assert not WorkItem.objects.filter(made_by__slug="train").exists()


@pytest.mark.parametrize(("pipeline", "repeated"), [("train", 1), ("forgetful", 3), ("listing", 1), ("groups", 1)])
def test_another_try_goes_on_from_the_state_if_the_stage_asks_for_it(pipeline, repeated):
    items = LONG if pipeline != "groups" else [LONG[0], LONG[0], LONG[1]]
    run = make_run(f"long-{pipeline}", items)

    def fail() -> None:
        raise ConnectionError("reset")

    with during(Once(("a", 2), fail)) as steps:
        run = settle(run)

    again = [("a", epoch) for epoch in range(3 - repeated, 3)]
    assert [step for step in steps if step[0] == "a"] == [("a", 0), ("a", 1), *again]
    assert outputs(run) == LONG_OUTPUTS
    assert nothing_is_left()


def test_an_item_that_fails_leaves_nothing_of_itself():
    run = make_run("long-train", LONG)

    def fail(step: int, ctx: StageContext) -> None:
        if step == 2 and ctx.item_key == "000":
            raise ConnectionError("reset")

    with during(fail):
        run = settle(run)

    assert [failure.payload for failure in ItemFailure.objects.all()] == [LONG[0]]
    assert outputs(run) == LONG_OUTPUTS[3:]
    assert nothing_is_left()


def test_an_item_that_waits_keeps_its_state():
    run = make_run("long-train", LONG)

    def wait() -> None:
        raise TryLater(0.01)

    with during(Once(("a", 2), wait)) as steps:
        run = settle(run)

    assert sorted(steps) == sorted(LONG_STEPS)
    assert outputs(run) == LONG_OUTPUTS
    assert nothing_is_left()


def test_an_irreversible_item_ends_before_the_stop():
    run = make_run("long-certain", LONG)

    with during(Once(("a", 0), lambda: pause(run))) as steps:
        drain(run)

    assert steps == LONG_STEPS[:3]
    assert outputs(run, "certain") == LONG_OUTPUTS[:3]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("none", "a JSON value other than None, got: None"),
        ("nan", "a state of finite numbers: it is nan"),
        ("object", "a state made of JSON values: Type is not JSON serializable: object"),
        ("large", "a state of at most 8,388,608 bytes, got: 16,777,218"),
    ],
)
def test_a_state_that_cannot_be_kept_fails_the_item(state, said):
    settle(make_run("long-odd", [{"state": state}]))

    assert said in ItemFailure.objects.get().error


@pytest.mark.slow
def test_a_checkpoint_begins_the_item_timeout_anew(monkeypatch):
    monkeypatch.setattr("tests.support.unfinished_pipelines.Train.item_timeout", 0.8)
    run = make_run("long-train", [{"name": "a", "epochs": 5}])

    with during(lambda step, ctx: ctx.sleep(0.4)):
        run = settle(run)

    assert not ItemFailure.objects.exists()
    assert not events(run, "overrun")
    assert len(outputs(run)) == 5


def test_a_stage_in_a_transaction_of_its_own_commits_all_the_same():
    run = make_run("long-train", LONG)

    def rolled_back(step: int, ctx: StageContext) -> None:
        if step == 1:
            with transaction.atomic():
                ctx.checkpoint({"epoch": 1})
                transaction.set_rollback(True)
            assert ItemState.objects.filter(state={"epoch": 1}).exists()

    with during(rolled_back):
        run = settle(run)

    assert outputs(run) == LONG_OUTPUTS


def test_a_checkpoint_takes_nothing_of_the_item_before():
    run = settle(make_run("long-mixed", LONG))

    assert outputs(run) == LONG_OUTPUTS


MANY: list[dict[str, Any]] = [{"name": "a", "count": 1_000}, {"name": "b", "count": 700}, {"name": "c", "count": 3}]
MANY_OUTPUTS = [{"name": item["name"], "n": n} for item in MANY for n in range(item["count"])]


@pytest.fixture
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SPILL_BYTES", 2_000)


@pytest.mark.slow
@pytest.mark.usefixtures("_small_memory")
def test_outputs_go_to_the_database_as_they_come_and_are_items_all_at_once():
    run = make_run("long-many", MANY)
    seen = []

    def look(step: int, ctx: StageContext) -> None:
        items = WorkItem.objects.filter(made_by__slug="many", payload__name="abc"[int(ctx.item_key)])
        seen.append((ItemChunk.objects.filter(key=ctx.item_key).count(), items.count()))

    with during(look):
        run = settle(run)

    assert max(chunks for chunks, _ in seen) > 5
    assert {items for _, items in seen} == {0}
    assert outputs(run, "many") == outputs(run) == MANY_OUTPUTS
    assert nothing_is_left()


@pytest.mark.usefixtures("_small_memory")
@pytest.mark.parametrize(
    "at", [("a", 500), *(pytest.param(at, marks=pytest.mark.slow) for at in (("a", 0), ("a", 900), ("b", 300)))]
)
@pytest.mark.parametrize("how", ["lose", "fail", "pause"])
def test_what_is_done_again_is_there_once(at, how):
    run = make_run("long-many", MANY)

    def fail() -> None:
        raise ConnectionError("reset")

    with during(Once(at, {"lose": lambda: lose(run), "fail": fail, "pause": lambda: pause(run)}[how])):
        drain(run)
        if how == "pause":
            lifecycle.resume(run.pk, actor=OPERATOR)
        run = settle(run)

    assert outputs(run, "many") == outputs(run) == MANY_OUTPUTS
    assert nothing_is_left()


@pytest.mark.usefixtures("_small_memory")
def test_half_an_item_is_gone_when_its_run_is_cancelled():
    run = make_run("long-many", MANY)

    def cancel() -> None:
        lose(run)
        assert ItemChunk.objects.exists()
        lifecycle.cancel(run.pk, actor=OPERATOR)

    with during(Once(("a", 900), cancel)):
        drain(run)
    reconciler.reconcile()

    run.refresh_from_db()
    assert run.lifecycle == "cancelled"
    assert nothing_is_left()
    assert not outputs(run, "many")


@pytest.mark.usefixtures("_small_memory")
def test_half_an_item_goes_in_parts(monkeypatch):
    monkeypatch.setattr(partial_items, "CHUNKS_AT_ONCE", 3)
    run = make_run("long-many", MANY)

    def cancel() -> None:
        lose(run)
        lifecycle.cancel(run.pk, actor=OPERATOR)

    with during(Once(("a", 900), cancel)):
        drain(run)
    count = ItemChunk.objects.count()

    assert partial_items.delete_ended() == 3
    assert ItemChunk.objects.count() == count - 3
    while partial_items.delete_ended():
        pass
    assert nothing_is_left()


@pytest.mark.usefixtures("_small_memory")
def test_an_item_that_ends_after_its_run_has_failed_is_whole():
    run = make_run("long-many", MANY)

    def fail() -> None:
        failing.fail(run.pk, reason="too many failures")
        reconciler.reconcile()

    with during(Once(("a", 900), fail)):
        drain(run)
    reconciler.reconcile()

    run.refresh_from_db()
    assert run.lifecycle == "failed"
    assert outputs(run, "many") == MANY_OUTPUTS[:1_000]
    assert nothing_is_left()


@pytest.mark.slow
@pytest.mark.usefixtures("_small_memory")
def test_an_item_with_state_and_many_outputs_goes_on_from_both():
    run = make_run("long-train", [{"name": "a", "epochs": 300}])

    with during(Once(("a", 250), lambda: lose(run))) as steps:
        run = settle(run)

    assert len(steps) == 301
    assert outputs(run) == [{"name": "a", "epoch": epoch} for epoch in range(300)]
    assert nothing_is_left()


@pytest.mark.slow
@pytest.mark.usefixtures("_small_memory")
def test_whoever_starts_over_leaves_no_state_of_before():
    Fickle.states.clear()

    run = settle(make_run("long-fickle", [{"name": "a"}]))

    assert Fickle.states == [None, "not asked", None]
    assert outputs(run) == [{"name": "a", "n": n} for n in range(200)]
    assert nothing_is_left()


@pytest.mark.slow
@pytest.mark.usefixtures("_small_memory")
@pytest.mark.parametrize("how", ["lose", "fail", "wait"])
def test_a_state_that_was_asked_for_stays_while_outputs_go_to_the_database(how, monkeypatch):
    monkeypatch.setattr("tests.support.unfinished_pipelines.Prepared.retries", 3)
    run = make_run("long-prepared", MANY[:1])
    left = [1, 2, 3]

    def meddle(step: int, ctx: StageContext) -> None:
        if step == 900 and left:
            left.pop()
            if how == "lose":
                lose(run)
            elif how == "fail":
                raise ConnectionError("reset")
            else:
                raise TryLater(0.01)

    with during(meddle) as steps:
        run = settle(run)

    assert steps.count("prepared") == 1
    assert not left
    assert outputs(run) == MANY_OUTPUTS[:1_000]
    assert nothing_is_left()


def test_a_hook_after_the_items_commits_no_checkpoint(monkeypatch):
    calls: list[Any] = []

    def finish(self: Any, ctx: StageContext, outputs: Any) -> None:
        calls.append(ctx.state)
        ctx.checkpoint({"is": "done"})

    monkeypatch.setattr(Hooked, "finish", finish)
    run = settle(make_run("hooked", 5))

    assert run.failure.endswith("finish failed: RuntimeError: Cannot commit a checkpoint: no item is in progress.")
    assert calls == [None]
