"""A run in which too much fails ends there, and one that completes with failures says so everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from automation.models import ItemFailure, Lifecycle
from automation.pipeline import GroupStage, Payload, Stage, failure_limit
from automation.pipeline.context import StageContext
from automation.reports import status
from tests.support.factories import drain, everybody_has_heard, make_run, outputs
from tests.support.pipelines import FailingPipeline, ScriptedPipeline, scripted

pytestmark = pytest.mark.django_db(transaction=True)


def failing_where(is_bad: Callable[[int], bool]) -> Callable[[Payload, StageContext], None]:
    def script(item: Payload, ctx: StageContext) -> None:
        if is_bad(item["n"]):
            raise ValueError("bad")

    return script


def test_what_is_broken_from_the_start_fails_the_run_after_ten_items():
    def script(item: Payload, ctx: StageContext) -> None:
        if item["n"] > 10:
            everybody_has_heard()
        raise ValueError("bad")

    with scripted(script):
        run = drain(make_run("scripted", items=200))

    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "scripted: the first 10 items failed, and none succeeded"
    assert ItemFailure.objects.count() <= 11


def test_more_than_the_half_fails_the_run_once_there_are_enough_to_tell(monkeypatch):
    monkeypatch.setattr("automation.worker.stage_loop.COUNT_SECONDS", 0.0)
    with scripted(failing_where(lambda n: n > 8)):
        run = drain(make_run("scripted", items=200))

    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "scripted: 12 of 20 items failed, more than 50%"


def test_the_last_failures_count_though_no_loop_was_due_to_count_them():
    with scripted(failing_where(lambda n: n > 8)):
        run = drain(make_run("scripted", items=40))

    assert run.lifecycle == Lifecycle.FAILED


def test_the_half_or_few_items_do_not_fail_the_run_and_it_completes_with_failures():
    with scripted(failing_where(lambda n: n % 2 == 0)):
        run = drain(make_run("scripted", items=60))
    with scripted(failing_where(lambda n: True)):
        few = drain(make_run("scripted", items=9))

    assert (run.lifecycle, run.failed_items, len(outputs(run))) == (Lifecycle.COMPLETED, 30, 30)
    assert (few.lifecycle, few.failed_items) == (Lifecycle.COMPLETED, 9)
    assert status.of(run) == status.of(few) == status.COMPLETED_WITH_FAILURES


def test_a_run_without_any_is_completed():
    clean = drain(make_run(items=5))

    assert (clean.failed_items, status.of(clean)) == (0, "completed")


def test_a_group_is_one_unit_of_a_share():
    assert failure_limit.exceeded(0.5, processed=0, failed=90, group_size=10) is None
    assert failure_limit.exceeded(0.5, processed=0, failed=100, group_size=10) is not None
    assert failure_limit.exceeded(0.5, processed=50, failed=140, group_size=10) is None
    assert failure_limit.exceeded(0.5, processed=50, failed=150, group_size=10) is not None


def test_a_limit_in_items_and_none_stay_what_they_say():
    assert failure_limit.exceeded(5, processed=0, failed=5) is None
    assert failure_limit.exceeded(5, processed=10_000, failed=6) == "6 items failed, at most 5 are allowed"
    assert failure_limit.exceeded(None, processed=0, failed=10_000) is None


class Wrong(Stage):
    slug = "scripted"
    title = "Wrong"
    given: object = None

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        return self.given  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n": 1}, "expected the outputs of process(), got one dict: yield it, or return [it]"),
        (None, "expected the outputs of process(), got None: yield each output, or return a list"),
        ("text", "expected the outputs of process(), dicts in a list or yielded, got: str"),
        (7, "got: int"),
    ],
)
def test_what_process_returns_by_mistake_is_told_with_what_to_do(given, said, monkeypatch):
    monkeypatch.setattr(ScriptedPipeline, "stages", (Wrong,))
    monkeypatch.setattr(Wrong, "given", given)

    drain(make_run("scripted", items=1))

    assert said in ItemFailure.objects.get().error


class Grouped(GroupStage):
    slug = "failing"
    title = "Grouped"
    group_size = 10

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        if items[0]["n"] == 1:
            raise ValueError("a bad group")
        return items


def test_one_bad_group_does_not_fail_the_run(monkeypatch):
    monkeypatch.setattr(FailingPipeline, "stages", (Grouped,))

    run = drain(make_run("failing", items=40))

    assert (run.lifecycle, run.failed_items) == (Lifecycle.COMPLETED, 10)


@pytest.mark.parametrize(("pipeline", "code"), [("numbers", 0), ("failing", 1)])
def test_watching_a_run_that_completed_with_failures_ends_with_an_error(pipeline, code, capsys):
    from django.core.management import call_command

    run = drain(make_run(pipeline, items=3))

    if code:
        with pytest.raises(SystemExit) as ended:
            call_command("watch_run", str(run.pk))
        assert ended.value.code == code
        assert f"Run {run.pk} is completed with failures: 1 item failed." in capsys.readouterr().out
    else:
        call_command("watch_run", str(run.pk))
        assert f"Run {run.pk} is completed." in capsys.readouterr().out
