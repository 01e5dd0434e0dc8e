"""However large the past is, no statement of the engine, the lists, the switch, the audit and the metrics walks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from rest_framework.authtoken.models import Token

from automation import dispatch, gate, leases, retention
from automation.agents import protocol
from automation.items import slicing
from automation.items.answers import Answers
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.leases.holders import Worker
from automation.leases.renewals import Loop
from automation.models import TERMINAL, AutomationRun, Lifecycle, Membership, Site, StageRun
from automation.reports.status import ALL as STATUSES
from automation.retention import archive, deletion, purge
from automation.runs import advancing, answering, lanes, lifecycle, questions, reconciler, retries, timeouts
from automation.workload import allocations, continued
from backend.console.runs.filters import FILTERS
from pause_manager import fleet, holds
from pause_manager.database.prepared import SEEN_BEFORE
from pause_manager.holds import milestones
from pause_manager.tasks import expire_holds, forget_history, forget_outcomes, poll
from tests.support.agent_calls import make_agent
from tests.support.api_users import AUTOMATION, OPERATE, RUNS, VIEW, make_user
from tests.support.factories import OPERATOR
from tests.support.filled_database import A_MILLION, BIG, IN_CI, Size, fill
from tests.support.query_plans import Explainer

pytestmark = pytest.mark.django_db(transaction=True)

Call = Callable[[], object]
VIEW_ROWS = [f"view_{name}" for name in ("stagerun", "workitem", "workslice", "itemfailure", "ticket")]

PERIODIC = "every few seconds: "


def client_of(user: User) -> Client:
    client = Client(headers={"Authorization": f"Token {Token.objects.create(user=user).key}"})
    client.force_login(user)
    return client


def got(client: Client, url: str) -> Call:
    def get() -> None:
        answer = client.get(url)
        assert answer.status_code == 200, (url, answer.status_code)
        if answer.streaming:
            next(iter(answer))

    return get


def lists(people: dict[str, Client], run: AutomationRun, ended: AutomationRun) -> Iterator[tuple[str, Call]]:
    """Every list and page of runs, of the audit, of the pause queue and of the fleet, for each who may read it."""
    yield "GET capacity/", got(people["large"], "/api/v1/capacity/")
    sites = {"root": "site-1", "large": "site-1", "small": "site-40"}
    for who, client in people.items():
        # By everybody's runs and by an account's; what is derived is of unfinished runs, whoever asks.
        statuses = {"root": STATUSES, "large": (), "small": TERMINAL}[who]
        queries = [f"?status={status}" for status in statuses] + ["", "?pipeline=drill", "?pipeline=nothing"]
        site = sites[who]
        queries += [f"?site={site}", f"?site={site}&status=cancelled", "?status=failed&pipeline=content"]
        for query in queries:
            yield f"{who}: GET runs/{query}", got(client, RUNS + query)
        yield f"{who}: second page", lambda client=client: second_page(client, RUNS)  # type: ignore[misc]
        for name in ("history", "current_run", "current_processing"):
            yield f"{who}: GET {name}/", got(client, f"{AUTOMATION}{name}/")
            yield f"{who}: GET {name}/ of a site", got(client, f"{AUTOMATION}{name}/?site_id={site}")
        yield f"{who}: console overview", got(client, "/")
        for status in FILTERS if who == "small" else ("", "active"):
            yield f"{who}: console {status}", got(client, f"/runs/?status={status}")
        for query in ("", "?action=complete", "?actor=user:x", "?channel=nowhere", "?since=2020-01-01T00:00:00Z"):
            yield f"{who}: GET audit/{query}", got(client, f"/api/v1/audit/{query}")
        yield f"{who}: audit export", got(client, "/api/v1/audit/export/?type=jsonl")
        yield f"{who}: pause queue", got(client, "/api/v1/pause-queue/")
        yield f"{who}: GET worker-pause", got(client, "/api/system/worker-pause")
        yield f"{who}: GET holds/", got(client, "/api/v1/holds/")
    for label, of in (("running", run), ("ended", ended)):
        for part in (
            "",
            "progress/",
            "stages/",
            "explain/",
            "failures/",
            "events/",
            "questions/",
            "items/?stage=input",
        ):
            yield f"GET run/{part} ({label})", got(people["large"], f"{RUNS}{of.pk}/{part}")
        yield f"logs ({label})", got(people["large"], f"{AUTOMATION}logs/?run_id={of.pk}")
        yield f"console page ({label})", got(people["large"], f"/runs/{of.pk}/")


def second_page(client: Client, url: str) -> None:
    following = client.get(f"{url}?limit=10").json()["next"]
    assert client.get(following.partition("testserver")[2]).status_code == 200


def admin_pages(people: dict[str, Client], run: AutomationRun) -> Iterator[tuple[str, Call]]:
    stage = run.stages.get(position=0)
    source = run.stages.get(position=-1)
    for who in ("root", "small"):
        client = people[who]
        for path in (
            "automationrun/",
            "automationrun/?lifecycle=held",
            "automationrun/?lifecycle=failed",
            "automationrun/?lifecycle=unfinished",
            "automationrun/?pipeline=content",
            "stagerun/",
            f"stagerun/?run__id__exact={run.pk}",
            f"workitem/?made_by__id__exact={source.pk}",
            "workitem/",
            f"workslice/?stage_run__id__exact={stage.pk}",
            "workslice/?state=leased",
            "workslice/",
            f"itemfailure/?stage_run__id__exact={stage.pk}",
            "itemfailure/",
            "ticket/",
            f"ticket/?stage_run__id__exact={stage.pk}",
        ):
            yield f"admin {path} as {who}", got(client, f"/admin/automation/{path}")
    yield "admin page of a run", got(people["large"], f"/admin/automation/automationrun/{run.pk}/change/")
    for path in ("controlevent/", "controlevent/?action=complete", "hold/", "hold/?state=active", "pausequeueentry/"):
        yield f"admin {path}", got(people["root"], f"/admin/pause_manager/{path}")


def periodic() -> Iterator[tuple[str, Call]]:
    """What beat asks for."""
    for part in (
        lifecycle.finish_cancels,
        lifecycle.note_drained_runs,
        lanes.fill_all,
        advancing.seal_finished,
        timeouts.fail_overdue,
        dispatch.replace_lost_tickets,
        dispatch.dispatch,
        reconciler.reap,
        reconciler.reconcile,
        milestones.detect_drained,
        holds.expire,
    ):
        yield f"{PERIODIC}{part.__name__}", part
    for task in (expire_holds, poll, forget_outcomes, forget_history):
        yield f"{PERIODIC}{task.name}", task.run
    Site.objects.update(retention_days=1_000)
    yield f"{PERIODIC}retention", retention.delete_due
    yield f"{PERIODIC}purge", purge.purge
    yield f"{PERIODIC}retries", retries.copy_remaining


def work(run: AutomationRun) -> Iterator[tuple[str, Call]]:
    """A slice's way: claim, heartbeats, checkpoints, its end; and what a stage's start and a run's verbs ask."""
    stage_run = run.stages.get(position=0)
    worker = Worker("test/scale", "node-1")

    def slice_of_a_loop() -> None:
        first = leases.claim(stage_run.pk, worker, room=lambda _: ())
        assert first is not None
        leases.heartbeat(first)
        leases.renew([Loop(stage_run.pk, first.slice_id, first.token)])
        leases.committed_cursor(first)
        checkpoint.commit(first, Progress(cursor=first.last_key, processed=1, outputs=[b'0000001.000\t{"n": 1}']))
        second = leases.claim(stage_run.pk, worker)
        assert second is not None
        leases.postpone(second, 60, "a provider")

    def slices_of_a_long_loop() -> None:
        """Its claims are prepared, and have one plan for every stage."""
        with connection.cursor() as cursor:
            cursor.execute("SET plan_cache_mode = force_generic_plan")
        for _ in range(SEEN_BEFORE + 2):
            work = leases.claim(stage_run.pk, worker, room=lambda _: ())
            assert work is not None
            leases.release(work)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE generic_plans > 1 AND custom_plans = 0")
            assert cursor.fetchone()[0] >= 2
            cursor.execute("RESET plan_cache_mode")

    def question_and_answer() -> None:
        assert questions.ask(stage_run, questions.exhausted("item", "0000009", "ValueError: no", 2))
        assert not questions.is_skipped(stage_run, "ValueError: no")
        assert not questions.has_no_limit(stage_run)
        answering.answer(run.pk, "skip", actor=OPERATOR, applies_to="same_error")
        third = leases.claim(stage_run.pk, worker)
        assert third is not None
        Answers(third, stage_run).load()
        leases.give_back(third, afresh=True)

    new = AutomationRun(pipeline="drill", params={"items": 7, "seed": "never seen"}, site_id=run.site_id)
    yield "a loop's slice", slice_of_a_loop
    yield "slices of a long loop", slices_of_a_long_loop
    yield "a question and its answer", question_and_answer
    yield "dispatch of a run", lambda: dispatch.of_runs([run.pk])
    yield "what is on the nodes", lambda: [list(allocations.by_node(node)) for node in (None, "node-1")]
    yield "rate of a stage", lambda: slicing.seconds_per_item(StageRun(run=new, slug="work"))
    yield "explain", lambda: gate.explain(run)
    yield "seal of one run", lambda: advancing.seal_finished([run.pk])
    yield "continued", lambda: continued.record(OPERATOR, "test")
    yield "pause", lambda: lifecycle.pause(run.pk, actor=OPERATOR)
    yield "resume", lambda: lifecycle.resume(run.pk, actor=OPERATOR)


def agents(site: Site) -> Iterator[tuple[str, Call]]:
    agent, _ = make_agent(account=site.account)
    yield "an agent asks for work", lambda: protocol.claim(agent, claim_id="once")


def switch() -> Iterator[tuple[str, Call]]:
    """The fleet's pause and resume."""
    yield "fleet.pause", lambda: fleet.pause(mode="drain", reason="test", actor=OPERATOR, confirmation="yes")
    yield "fleet.snapshot", lambda: fleet.snapshot()
    yield "reap while held", reconciler.reap
    yield (
        "fleet.pause, harder",
        lambda: fleet.pause(mode="quiesce", reason="test", actor=OPERATOR, confirmation="yes"),
    )
    yield "fleet.resume", lambda: fleet.resume(reason="test", actor=OPERATOR, force=True, confirmation="yes")


def ends(run: AutomationRun, ended: AutomationRun) -> Iterator[tuple[str, Call]]:
    yield "cancel", lambda: lifecycle.cancel(run.pk, actor=OPERATOR)
    yield "retry", lambda: retries.retry_failed(ended.pk, actor=OPERATOR)
    yield "delete", lambda: deletion.delete(ended.pk, actor=OPERATOR)
    yield "the rest of a deleted run", purge.purge
    yield "archive", lambda: list(archive.lines(run))


def everything(root: User, large: User, small: User) -> Iterator[tuple[str, Call]]:
    people = {"root": client_of(root), "large": client_of(large), "small": client_of(small)}
    at_work = AutomationRun.objects.filter(lifecycle=Lifecycle.RUNNING).order_by("created_at")
    ended = AutomationRun.objects.filter(lifecycle=Lifecycle.FAILED, account=large.accounts.get()).first()
    assert ended is not None
    run = at_work[0]
    yield from lists(people, run, ended)
    yield from admin_pages(people, run)
    yield "/metrics", got(people["root"], "/metrics")
    yield from periodic()
    yield from work(run)
    yield from agents(run.site)
    yield from switch()
    yield from ends(at_work[1], ended)


@pytest.fixture
def on_an_ssd(transactional_db: None) -> Iterator[None]:
    """In a table that is small and in memory, PostgreSQL's default makes it a matter of luck what is read."""
    with connection.cursor() as cursor:
        cursor.execute("SET random_page_cost = 1.1")
        yield
        cursor.execute("RESET random_page_cost")


@pytest.mark.usefixtures("on_an_ssd")
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(IN_CI, id="ci", marks=pytest.mark.timeout(300)),
        pytest.param(A_MILLION, id="million", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_no_statement_looks_at_more_than_it_needs(size: Size, transactional_db: None, settings: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "with_gpus": False}
    accounts = fill(size)
    root = User.objects.create_superuser("root")
    members = {}
    for name, account in accounts._asdict().items():
        members[name] = make_user(name, None, VIEW, OPERATE, *VIEW_ROWS)
        members[name].is_staff = True
        members[name].save()
        Membership.objects.create(user=members[name], account_id=account)
    explained = Explainer(BIG)

    for label, call in everything(root, members["large"], members["small"]):
        with explained.of(label):
            call()

    too_much = {str(step) for step in explained.steps if step.rows > size.most_read}
    assert not too_much, "\n".join(sorted(too_much))
    assert len(explained.statements) > 100
