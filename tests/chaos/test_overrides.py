"""An override ends though those who end it were killed meanwhile, and real loops obey it while it lasts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from automation.models import AutomationRun, WorkSlice
from pause_manager import nodes, overrides
from pause_manager.models import Override
from pause_manager.tasks import expire_holds
from tests.support.factories import OPERATOR, make_run
from tests.support.node_factories import make_node
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.chaos]


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path):
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path)})
    try:
        yield running
    finally:
        running.close()


def leased(run: AutomationRun) -> int:
    return WorkSlice.objects.leased().filter(stage_run__run=run).count()


def test_one_whose_time_came_while_the_control_worker_was_dead_ends_when_one_is_back(workers: Workers):
    make_node()
    nodes.set_threshold("n1", 0.3, actor=OPERATOR)
    workers.start("control")
    override = overrides.start(
        "node_threshold", "n1", "80%", expires_in=timedelta(seconds=2), actor=OPERATOR, reason="the launch"
    )
    workers.kill("control")
    assert eventually(lambda: Override.objects.due().exists(), 10)
    assert nodes.live_nodes()[0].pause_below == 0.8

    expire_holds.apply_async(queue="control")
    workers.start("control")

    assert eventually(lambda: Override.objects.get(pk=override.pk).ended_at is not None)
    assert nodes.live_nodes()[0].pause_below == 0.3


def test_loops_of_real_workers_are_no_more_than_an_override_says_and_return_after_it(workers: Workers):
    run = make_run("drill", items=None, params={"items": 400, "seconds": 0.2})
    overrides.start(
        "stage_concurrency",
        f"run:{run.pk}/{run.stages.get(position=0).slug}",
        "1",
        expires_in=timedelta(seconds=8),
        actor=OPERATOR,
    )
    workers.start("stages", "-Q", "stages", "-c", "3")

    assert eventually(lambda: leased(run) == 1), (leased(run), workers.said("stages")[-3000:])
    most = 0
    while Override.objects.active().exclude(pk__in=Override.objects.due()).exists():
        most = max(most, leased(run))
    assert most == 1

    expire_holds.apply_async(queue="control")
    workers.start("control")

    assert eventually(lambda: leased(run) > 1)
