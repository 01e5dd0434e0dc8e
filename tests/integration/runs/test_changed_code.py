"""A run owns its definition: what becomes of unfinished runs when the code of their pipeline changes."""

from __future__ import annotations

import importlib
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client

from automation import dispatch, gate, leases, tasks
from automation.agents import protocol
from automation.agents.submission import Submission
from automation.gate import installed_code
from automation.models import Agent, AutomationRun, ItemFailure, StageRun, Standstill, Ticket, WorkSlice
from automation.pipeline import Param, registry
from automation.reports.working_time import durations_of
from automation.runs import failing, lifecycle, reconciler, retries, timeouts
from automation.workload import allocations
from pause_manager import fleet
from tests.support.api_users import OPERATE, RUNS, VIEW, client_of, make_user
from tests.support.evolving_pipeline import (
    TONE,
    Evolving,
    Known,
    Middle,
    One,
    Pairing,
    Renamed,
    Triples,
    Two,
    TwoAsGroups,
    TwoByAgents,
    TwoElsewhere,
    TwoWithTone,
    midway,
)
from tests.support.factories import OPERATOR, claim, drain, events, leased, make_run, outputs, settle, stage_of, tickets
from tests.support.lost_loops import claim_as, die_on_an_item, process

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = [{"n": n, "by": ["one", "two"]} for n in range(1, 21)]
TWO_IS_MISSING = "Stage two of pipeline evolving is not in this release; it continues when it is, or cancel it."
NO_PIPELINE = "Pipeline evolving is not in this release; it continues when it is, or cancel it."


@pytest.fixture
def deploy(monkeypatch):
    """Other code, from here on."""

    def change(*stages: Any, of: Any = Evolving, **attributes: Any) -> None:
        for name, value in {"stages": stages or of.stages, **attributes}.items():
            monkeypatch.setattr(of, name, value)
        monkeypatch.setitem(registry._registry, of.slug, of)

    return change


@pytest.fixture
def uninstall(monkeypatch):
    return lambda: monkeypatch.delitem(registry._registry, "evolving")


def reconcile(run: AutomationRun) -> AutomationRun:
    """What beat and the workers do in some seconds."""
    for _ in range(5):
        reconciler.reap()
        reconciler.reconcile()
        drain(run)
    run.refresh_from_db()
    return run


def reasons(run: AutomationRun) -> list[str]:
    return [reason.sentence for reason in gate.explain(AutomationRun.objects.get(pk=run.pk))]


def says(run: AutomationRun, *paths: str) -> dict[str, Any]:
    """What the API answers about the run, by path."""
    api = client_of(make_user(f"anna-{User.objects.count()}", run.site, OPERATE, VIEW))
    answers = {path: api.get(f"{RUNS}{run.pk}/{path}") for path in paths}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: answer.json() for path, answer in answers.items()}


def browser_of(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.mark.parametrize(
    "stages",
    [(One, Middle, Two), (One, Two, Middle), (Two, One), (One, Known), (One, TwoElsewhere)],
    ids=["added in the middle", "added at the end", "reordered", "renamed and said so", "declared otherwise"],
)
def test_a_run_keeps_the_graph_that_it_was_created_with(deploy, stages):
    run = midway()
    lifecycle.pause(run.pk, actor=OPERATOR, reason="upgrade")

    deploy(*stages)
    lifecycle.resume(run.pk, actor=OPERATOR)

    settle(run)
    assert run.lifecycle == "completed"
    assert list(run.stages.filter(position__gte=0).values_list("slug", "lifecycle")) == [
        ("one", "completed"),
        ("two", "completed"),
    ]
    slug = "zwei" if Known in stages else "two"
    assert outputs(run) == [{"n": n, "by": ["one", slug]} for n in range(1, 21)]
    assert {ticket.queue for ticket in Ticket.objects.all()} <= {"stages"}


@pytest.mark.parametrize("stages", [(One,), (One, Renamed)], ids=["removed", "renamed"])
def test_a_stage_without_code_is_a_reason_until_a_release_has_it(deploy, stages):
    run = midway()

    deploy(*stages)
    reconcile(run)

    assert (run.lifecycle, stage_of(run).slug, stage_of(run).total_items) == ("running", "two", 20)
    assert reasons(run) == [TWO_IS_MISSING]
    assert (tickets(run), claim(run), dispatch.dispatch()) == (0, None, 0), "nothing is sent, nothing is leased"
    assert not ItemFailure.objects.exists()

    deploy(One, Two)
    settle(run)
    assert (run.lifecycle, outputs(run), reasons(run)) == ("completed", BOTH, ["It is completed."])


def test_the_stage_at_work_is_removed(deploy):
    run = midway()

    deploy(Two)
    reconcile(run)

    assert reasons(run) == [
        "Stage one of pipeline evolving is not in this release; it continues when it is, or cancel it."
    ]
    assert WorkSlice.objects.filter(stage_run__run=run, crashes__gt=0).count() == 0
    assert lifecycle.cancel(run.pk, actor=OPERATOR).lifecycle == "cancelled"


@pytest.mark.parametrize("now", [TwoAsGroups, TwoByAgents])
def test_code_that_takes_something_else_is_missing_too(deploy, now):
    run = midway()

    deploy(One, now)
    reconcile(run)

    does = "takes groups of items" if now is TwoAsGroups else "is done by agents"
    [why] = reasons(run)
    assert why.startswith(
        f"Stage two of pipeline evolving {does} in this release, but this run's takes items one by one"
    )
    assert (tickets(run), claim(run), ItemFailure.objects.count()) == (0, None, 0)


def test_a_pending_run_without_code_waits_and_every_list_says_so(deploy):
    run = make_run("evolving", items=5, start=False)
    deploy(Two)

    started = lifecycle.start_run(run.pk, actor=OPERATOR)

    api = client_of(make_user("anna", run.site, OPERATE, VIEW))
    assert (started.lifecycle, gate.blocked([started])) == ("pending", {run.pk})
    assert [row["id"] for row in api.get(f"{RUNS}?status=waiting").json()["results"]] == [str(run.pk)]
    assert api.get(f"{RUNS}?status=pending").json()["results"] == []
    assert says(run, "")[""]["status"] == "waiting"
    page = browser_of(make_user("olga", run.site, OPERATE, VIEW)).get("/runs/").content.decode()
    assert "Stage one of pipeline evolving is not in this release" in page

    deploy(One, Two)
    assert api.get(f"{RUNS}?status=waiting").json()["results"] == []
    assert settle(run).lifecycle == "completed"


def test_everything_is_shown_without_the_pipeline_also_of_runs_that_ended_before_rows_said(uninstall):
    ended, run = drain(make_run("evolving", items=5)), midway()
    StageRun.objects.filter(run=ended).update(definition={})

    uninstall()
    reconcile(run)

    for one, titles in ((run, ["First", "Second"]), (ended, ["one", "two"])):
        found = says(one, "", "progress/", "stages/", "explain/", "items/?stage=one", "failures/", "events/")
        assert [stage["title"] for stage in found["progress/"]["stages"]] == titles
        assert [stage["title"] for stage in found["stages/"]["results"]] == titles
    assert says(run, "explain/")["explain/"]["reasons"][0]["code"] == "code_missing"
    assert reasons(run) == [NO_PIPELINE]
    viewer = make_user("olga", run.site, OPERATE, VIEW)
    api, browser = client_of(viewer), browser_of(viewer)
    assert api.get(RUNS).status_code == 200
    assert api.get("/api/v1/automation/current_processing/").json()["title"] == "First"
    assert NO_PIPELINE in browser.get("/runs/").content.decode()
    assert NO_PIPELINE in browser.get(f"/runs/{run.pk}/").content.decode()
    assert browser.get(f"/runs/{ended.pk}/").status_code == 200


def test_the_groups_of_a_run_stay_as_they_were_cut(deploy):
    run = make_run("pairing", items=10)
    work = leased(run)
    leases.release(work)

    deploy(Triples, of=Pairing)

    settle(run)
    assert outputs(run) == [{"of": [n, n + 1], "group_size": 2} for n in range(1, 11, 2)]
    assert outputs(settle(make_run("pairing", items=3)))[0] == {"of": [1, 2, 3], "group_size": 3}


def test_queue_and_needs_are_those_of_the_row(deploy):
    run = make_run("evolving", items=5)
    deploy(One, TwoElsewhere)
    stage_run = StageRun.objects.get(run=run, slug="one")
    changed = {**(stage_run.definition or {}), "queue": "night", "needs": {"cpu": 9}}
    StageRun.objects.filter(pk=stage_run.pk).update(definition=changed)
    Ticket.objects.all().delete()

    dispatch.dispatch()
    work = leased(run)

    assert [ticket.queue for ticket in Ticket.objects.filter(stage_run__run=run)][:1] == ["night"]
    loads = {load.ref: (load.needs.cpu, load.queue) for _, load in allocations.by_node(None)}
    assert loads[f"slice:{work.slice_id}"] == (9, "night")
    assert "queue:night" in gate.scopes_of(run)


@pytest.mark.parametrize(
    ("params", "given"),
    [((TONE,), {}), ((), {"tone": "warm"})],
    ids=["one more, which the stage uses", "one less, which the stage still uses"],
)
def test_parameters_come_and_go(deploy, params, given):
    deploy(One, TwoWithTone, params=(TONE,) if given else ())
    run = midway(params=given)

    deploy(One, TwoWithTone, params=params)
    settle(run)

    assert (run.lifecycle, ItemFailure.objects.count()) == ("completed", 0)
    assert {output["tone"] for output in outputs(run)} == {given.get("tone", "plain")}


def test_a_parameter_of_another_type_holds_the_run_and_fails_no_item(deploy):
    deploy(One, TwoWithTone, params=(TONE,))
    run = midway(params={"tone": "warm"})

    deploy(params=(Param("tone", int, 1),))
    reconcile(run)

    assert (run.lifecycle, run.paused_at is not None, tickets(run)) == ("running", True, 0)
    assert reasons(run) == [
        "This run was paused by system: This release of pipeline evolving does not accept its parameters. Cannot use "
        "parameter 'tone': expected a whole number, got: 'warm'."
    ]
    assert not ItemFailure.objects.exists()
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert reconcile(run).paused_at is not None, "nothing has changed"

    deploy(params=(TONE,))
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert settle(run).lifecycle == "completed"


def test_the_working_clock_stands_while_nothing_has_code(deploy):
    run = midway(timeout_seconds=60)
    deploy(Two)
    reconcile(run)
    AutomationRun.objects.filter(pk=run.pk).update(started_at=Now() - timedelta(hours=2))
    Standstill.objects.filter(run=run).update(since=Now() - timedelta(hours=2))

    assert timeouts.fail_overdue() == 0
    assert durations_of([run])[run.pk].active < 1
    assert gate.explain(AutomationRun.objects.get(pk=run.pk))[0].since is not None

    deploy(One, Two)
    assert settle(run).lifecycle == "completed"
    assert Standstill.objects.get(run=run).until is not None


def test_a_worker_without_the_code_leaves_the_message_to_others(deploy):
    run = make_run("evolving", items=5)
    ticket = Ticket.objects.get(stage_run__run=run)
    before = events(run)

    deploy(Two)
    tasks.stage_loop(ticket.stage_run_id, ticket.pk)

    run.refresh_from_db()
    assert (run.lifecycle, events(run), tickets(run)) == ("running", before, 0)
    assert list(WorkSlice.objects.filter(stage_run__run=run).values_list("crashes", "cursor")) == [(0, "")]
    deploy(One, Two)
    assert settle(run).lifecycle == "completed"


def test_a_poison_item_is_given_up_by_a_worker_without_the_code(deploy):
    run = make_run("evolving", items=1)
    die_on_an_item(run)
    die_on_an_item(run)
    with process() as owner:
        claim_as(run, owner)

    deploy(Two)
    reconciler.reap()

    assert [failure.payload for failure in ItemFailure.objects.all()] == [{"n": 1}]


def test_a_run_of_the_release_before_is_defined_from_the_code_that_has_it(deploy, uninstall):
    """Its rows have no definition, as that release writes them while both are at work."""
    run = midway()
    StageRun.objects.filter(run=run).update(definition=None)
    Ticket.objects.all().delete()
    assert (dispatch.dispatch(), claim(run)) == (0, None)
    assert "it continues when the reconciler has taken it over, in seconds" in reasons(run)[0]

    deploy(One)
    reconcile(run)

    assert list(run.stages.filter(definition__isnull=False).values_list("slug", flat=True)) == ["one"]
    assert (stage_of(run).slug, reasons(run)) == ("one", [TWO_IS_MISSING]), "what comes after one is not known here"
    deploy(One, Middle, Two)
    settle(run)
    assert (run.lifecycle, outputs(run)) == ("completed", BOTH)


def test_the_migration_leaves_unfinished_runs_to_the_reconciler_and_final_ones_alone():
    ended, run = drain(make_run("evolving", items=5)), midway()
    StageRun.objects.update(definition={})

    importlib.import_module("automation.migrations.0013_undefined_stages").undefine(apps, SimpleNamespace())

    kept = StageRun.objects.filter(definition__isnull=False)
    assert {(one.run_id, one.slug) for one in kept} == {
        (run.pk, "input"), (ended.pk, "input"), (ended.pk, "one"), (ended.pk, "two")
    }  # fmt: skip
    assert settle(run).lifecycle == "completed"


def test_a_retry_has_the_stages_of_the_run_that_it_does_again(deploy):
    run = make_run("evolving", items=4)
    failing.fail(run.pk, reason="to be done again")

    deploy(TwoElsewhere, Middle, One)
    again = retries.retry_failed(run.pk, actor=OPERATOR)

    rows = again.stages.filter(position__gte=0).order_by("position")
    assert list(rows.values_list("slug", "definition__after", "definition__queue")) == [
        ("one", [], "stages"),
        ("two", ["one"], "gpu"),
    ]
    deploy(Two)
    other = make_run("evolving", items=1)
    failing.fail(other.pk, reason="to be done again")
    deploy(One)
    without_code = retries.retry_failed(other.pk, actor=OPERATOR)
    assert list(without_code.stages.order_by("position").values_list("slug", flat=True)) == ["input", "two"]
    assert reasons(without_code) == [TWO_IS_MISSING]


def test_an_agents_slice_is_finished_without_the_code_and_none_is_given_out(deploy, uninstall):
    deploy(One, TwoByAgents)
    run = settle_until_two(make_run("evolving", items=10))
    agent = Agent.objects.create(
        name="box", account=run.site.account, pipelines=["evolving"], node="box", token_hash="x"
    )
    job = protocol.claim(agent)["job"]

    uninstall()

    first = job["items"][0]["key"]
    done = protocol.commit(
        agent, job["id"], job["token"], Submission(first, {first: [{"n": 0}]}), actor=OPERATOR, release=True
    )
    assert (done["cursor"], protocol.claim(agent)["job"]) == (first, None)
    assert reasons(run) == [NO_PIPELINE]


def settle_until_two(run: AutomationRun) -> AutomationRun:
    reconcile(run)
    assert stage_of(run).slug == "two"
    return run


def test_check_runs_lists_what_the_code_lacks_and_fleet_status_warns(deploy, shell):
    one, other = midway(), midway(params={})
    lifecycle.pause(one.pk, actor=OPERATOR)
    lifecycle.cancel(make_run("evolving", items=3).pk, actor=OPERATOR)
    assert shell("check_runs").code == 0

    deploy(One, Renamed, params=())
    reconcile(other)
    make_run("numbers", items=3)  # not before: a loop would have worked on it in turn
    told = shell("check_runs")
    lines = shell("check_runs", "--json").objects

    assert told.code == 1
    assert f"{one.pk}  {TWO_IS_MISSING}" in told.out
    assert "2 unfinished runs of 3 use stages or parameters that this code does not have: evolving/two (2)." in told.out
    assert {line["run"] for line in lines} == {str(one.pk), str(other.pk)}
    assert lines[0] == {
        "run": lines[0]["run"],
        "pipeline": "evolving",
        "stages": ["two"],
        "code": "code_missing",
        "sentence": TWO_IS_MISSING,
    }
    assert any("1 run waits for a stage" in warning for warning in fleet.snapshot()["warnings"])
    deploy(One, Known)
    assert shell("check_runs").code == 0


def test_check_runs_lists_parameters_that_the_code_does_not_take(deploy, shell):
    deploy(params=(TONE,))
    run = make_run("evolving", items=3, params={"tone": "warm"})

    deploy(params=(Param("tone", int, 1),))

    told = shell("check_runs")
    assert (told.code, "expected a whole number, got: 'warm'" in told.out) == (1, True)
    assert str(run.pk) in told.out


def test_a_stage_is_made_with_what_the_run_was_created_with(deploy):
    deploy(One, TwoElsewhere)
    run = midway()
    deploy(One, Two)

    made = installed_code.make("evolving", run.stages.get(slug="two"))
    assert (type(made), made.retries, made.queue, made.needs.cpu) == (Two, 7, "gpu", 64)
