"""Why a run, a parked task, a run that does not exist yet, or an agent waits: the same answer by every door."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from automation.agents import explanation as of_agent
from automation.agents import registry
from automation.models import Agent, AutomationRun, Lane, Site
from automation.pipeline import get_pipeline
from automation.reports import explanation
from automation.runs import creation, lifecycle
from pause_manager import holds
from pause_manager.models import PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.pause_queue import explanation as of_entry
from pause_manager.reasons import Explanation
from tests.support.api_users import AUTOMATION, OPERATE, VIEW, client_of, make_user
from tests.support.factories import OPERATOR, make_run, make_site, numbers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site() -> Site:
    site = make_site("acme")
    Lane.objects.update_or_create(name=site.slug, defaults={"width": 1})
    return site


def run_of(site: Site, pipeline: str = "few", **options: Any) -> AutomationRun:
    return creation.create(pipeline, items=numbers(3), actor=OPERATOR, site=site, **options)


def codes(explained: Explanation) -> list[str]:
    return [reason.code for reason in explained.reasons if reason.keeps]


def entry(**values: Any) -> PauseQueueEntry:
    known = {
        "ref": "task:1",
        "task_name": "render",
        "queue": "gpu",
        "work_queue": "gpu",
        "reason": "full",
        "message": {},
    }
    return PauseQueueEntry.objects.create(**{**known, **values})


@pytest.mark.req("S-12")
def test_what_waits_for_a_lane_is_told_its_place_and_moves_up(site):
    first, second, third = run_of(site), run_of(site), run_of(site)

    assert codes(explanation.of_run(first)) == []
    assert explanation.of_run(first).position is None
    assert [explanation.of_run(run).position for run in (second, third)] == [1, 2]
    assert codes(explanation.of_run(third)) == ["lane"]

    lifecycle.cancel(first.pk, actor=OPERATOR)
    second.refresh_from_db()

    assert second.lane_seat_at is not None
    assert explanation.of_run(third).position == 1


def test_a_new_run_would_wait_for_what_a_run_that_is_created_waits_for(site):
    def asked() -> Explanation:
        return explanation.of_new_run(get_pipeline("few"), site)

    assert codes(asked()) == []

    run_of(site)
    assert codes(asked()) == ["lane"]
    assert asked().position == 1
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")
    holds.place([f"lane:{site.slug}"], kind="freeze", actor=OPERATOR, reason="check failed")
    holds.place(["queue:stages"], actor=OPERATOR, reason="GPU is needed")
    foretold = asked()
    created = explanation.of_run(run_of(site))

    assert codes(foretold) == codes(created) == ["fleet", "freeze", "operator", "lane"]
    assert foretold.position == created.position == 1
    assert [reason.sentence for reason in foretold.reasons[:3]] == [reason.sentence for reason in created.reasons[:3]]


def test_a_closed_site_says_so(site):
    Site.objects.filter(pk=site.pk).update(closed_at=Now())
    site.refresh_from_db()

    assert codes(explanation.of_new_run(get_pipeline("few"), site)) == ["closed"]


def test_a_parked_task_is_told_every_hold_and_its_place():
    entries = [entry(ref=f"task:{number}", waits_for="hold", priority=3) for number in range(3)]
    urgent = entry(ref="task:urgent", waits_for="hold", priority=1)
    other = entry(ref="task:other", waits_for="hold", queue="cpu", work_queue="cpu")
    holds.place(["queue:gpu"], actor=OPERATOR, reason="demo")
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")

    explained = of_entry.explain(entries[1])

    assert codes(explained) == ["fleet", "operator"]
    assert explained.reasons[1].sentence == "The queue gpu was paused by olga: demo."
    assert explained.reasons[1].figures["scope"] == "queue:gpu"
    assert [of_entry.explain(one).position for one in (urgent, *entries, other)] == [1, 2, 3, 4, 1]
    assert codes(of_entry.explain(other)) == ["fleet"]


def test_a_parked_task_is_told_what_is_wrong_with_it_and_when_it_may_resume():
    waits = entry(resume_after=Now() + timedelta(hours=1))
    stuck = entry(ref="task:2", problem="unknown_task", waits_for="hold")
    members.acknowledge("w1", node="n1", queues=["cpu"], version=0)

    for one in (waits, stuck):
        one.refresh_from_db()
    assert codes(of_entry.explain(waits)) == ["not_before", "capacity"]
    assert codes(of_entry.explain(stuck)) == ["unknown_task"]
    assert "no_worker" in [reason.code for reason in of_entry.explain(waits).reasons]


def agent_of(site: Site, **values: Any) -> Agent:
    agent = Agent(name="lab", account=site.account, pipelines=["remote"], node="lab-1", **values)
    registry.issue(agent, actor=OPERATOR)
    Agent.objects.filter(pk=agent.pk).update(last_seen_at=Now())
    agent.refresh_from_db()
    return agent


def test_an_agent_is_told_why_it_gets_nothing(site):
    agent = agent_of(site)

    assert codes(of_agent.explain(agent)) == ["no_work"]

    run = run_of(site, "remote")
    assert codes(of_agent.explain(agent)) == []

    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    explained = of_agent.explain(agent)
    assert codes(explained) == ["no_work"]
    assert "lunch" in explained.reasons[0].sentence
    assert explained.reasons[0].figures == {"run": str(run.pk)}

    holds.place(["node:lab-1"], actor=OPERATOR, reason="repairs")
    assert codes(of_agent.explain(agent)) == ["node", "no_work"]

    Agent.objects.filter(pk=agent.pk).update(is_enabled=False)
    agent.refresh_from_db()
    assert codes(of_agent.explain(agent))[0] == "disabled"


def test_asking_changes_nothing(site):
    agent = agent_of(site)
    run = run_of(site, "remote")

    of_agent.explain(agent)
    explanation.of_new_run(get_pipeline("remote"), site)

    assert not run.stages.get(position=0).slices.leased().exists()
    assert AutomationRun.objects.count() == 1


def test_every_door_says_the_same(site, shell):
    operator = make_user("olga", site, VIEW, OPERATE)
    stranger = make_user("sam", make_site("other"), VIEW, OPERATE)
    run_of(site)
    second = run_of(site)
    agent_of(site)

    api = client_of(operator)
    run = api.get(f"{AUTOMATION}runs/{second.pk}/explain/").json()
    new = api.get(f"{AUTOMATION}pipelines/few/explain/?site=acme").json()
    agent = api.get(f"{AUTOMATION}agents/lab/explain/").json()

    assert (run["may_start"], run["position"], run["reasons"][0]["code"]) == (False, 1, "lane")
    assert (new["may_start"], new["position"], new["reasons"][0]["code"]) == (False, 2, "lane")
    assert agent["reasons"][0]["code"] == "no_work"
    told = shell("explain", "pipeline", "few", "--site", "acme", "--json").objects[0]
    assert [one["code"] for one in told["reasons"]] == ["lane"]
    assert "It is next in line" in shell("explain_run", str(second.pk)).out
    assert "No stage for agents of remote is running." in shell("explain", "agent", "lab").out
    for path in ("pipelines/few/explain/?site=acme", "agents/lab/explain/"):
        assert client_of(stranger).get(AUTOMATION + path).status_code == 404
    assert api.get(f"{AUTOMATION}pipelines/none/explain/?site=acme").status_code == 404
    assert shell("explain", "agent", "none").code == 4


def test_a_parked_task_is_explained_over_http_and_in_the_shell(shell):
    from django.contrib.auth.models import User

    one = entry(waits_for="hold")
    holds.place(["queue:gpu"], actor=OPERATOR, reason="demo")
    api = client_of(User.objects.create_superuser("root"))

    told = api.get(f"/api/v1/pause-queue/{one.pk}/explain/").json()
    shown = shell("pause_queue", "explain", str(one.pk))

    assert (told["may_start"], told["position"], told["reasons"][0]["sentence"]) == (
        False,
        1,
        "The queue gpu was paused by olga: demo.",
    )
    assert "The queue gpu was paused by olga: demo." in shown.out
    assert api.get("/api/v1/pause-queue/999999/explain/").status_code == 404
    assert shell("pause_queue", "explain", "999999").code == 4


def test_a_run_parked_for_room_has_its_place_in_the_pause_queue():
    run = make_run("few", items=3)
    holds.place([run.scope], kind="capacity", actor=OPERATOR, reason="full")
    entry(ref="task:before", priority=1, waits_for="capacity", work_queue="stages")
    entry(ref=run.scope, waits_for="capacity", queue="control", work_queue="stages", message=None)

    assert explanation.of_run(run).position == 2
