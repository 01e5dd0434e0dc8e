"""The overview: what it says needs a person, what it draws, whom it shows what, and what it costs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from automation.models import AutomationRun, Site
from automation.runs import freezes, lifecycle, questions
from automation.worker.stage_loop import FAILED, PROCESSED
from backend.console.overview import charts
from pause_manager import fleet
from pause_manager.fleet import bulk_holds
from pause_manager.models import CounterSample, CounterTotal, Hold, WaitingSample
from pause_manager.models.clock import database_now
from pause_manager.observability import counter_history
from pause_manager.tasks import forget_history, poll
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR, claim, make_run, make_site, stage_of

pytestmark = pytest.mark.django_db(transaction=True)

FLEET = "operate_fleet"


def signed_in(site: Site | None, *permissions: str, name: str = "vera") -> Client:
    client = Client()
    client.force_login(User.objects.get(pk=make_user(name, site, *permissions).pk))
    return client


def text_of(client: Client) -> str:
    page = client.get("/").content.decode()
    return re.sub(r"\s+", " ", page[page.index('id="content"') :])


def ago(**parts: int) -> datetime:
    return database_now().replace(second=0, microsecond=0) - timedelta(**parts)


class TestTheFirstTime:
    def test_a_drill_is_one_button_away(self) -> None:
        site = make_site("ours")
        client = signed_in(site, VIEW, OPERATE)
        assert "Start a drill" in text_of(client)

        answer = client.post("/", {"do": "drill"}).json()

        run = AutomationRun.objects.get()
        assert (run.pipeline, run.site, run.created_by) == ("drill", site, "user:vera")
        assert answer["location"] == f"/runs/{run.pk}/"
        assert "Start a drill" not in text_of(client)

    def test_who_may_only_look_is_offered_nothing_and_refused(self) -> None:
        client = signed_in(make_site("ours"), VIEW)

        page, answer = text_of(client), client.post("/", {"do": "drill"})

        assert "Start a drill" not in page
        assert answer.status_code == 403
        assert not AutomationRun.objects.exists()

    def test_without_a_site_it_says_what_is_missing(self) -> None:
        client = signed_in(None, VIEW, OPERATE)

        answer = client.post("/", {"do": "drill"})

        assert "no site yet" in text_of(client)
        assert (answer.status_code, "have no site" in answer.json()["refused"]) == (409, True)


class TestWhatNeedsAPerson:
    def test_a_question_is_shown_with_its_run_and_not_to_other_accounts(self) -> None:
        run = make_run()
        claim(run)
        questions.ask(stage_of(run), questions.exhausted("item", "000.000", "ValueError: no such page", 2))

        page = text_of(signed_in(run.site, VIEW))
        other = text_of(signed_in(make_site("theirs"), VIEW, name="stan"))

        assert f'href="/runs/{run.pk}/">Answer' in page
        assert f"{str(run.pk)[:8]} asks:" in page
        assert str(run.pk) not in other

    def test_a_forgotten_hold_is_released_by_its_button(self) -> None:
        run = make_run()
        lifecycle.pause(run.pk, actor=OPERATOR, reason="until the <b>invoice</b> is paid")
        bulk_holds.place(["queue:stages"], mode="drain", actor=OPERATOR, reason="an upgrade")
        Hold.objects.update(created_at=Now() - timedelta(days=2))
        client = signed_in(run.site, VIEW, OPERATE, FLEET)
        page = text_of(client)
        assert page.count(">Release</button>") == 2
        assert "&lt;b&gt;invoice" in page

        first = client.post("/", {"do": "release", "scope": run.scope, "reason": "it is paid"})
        second = client.post("/", {"do": "release", "scope": "queue:stages"})
        again = client.post("/", {"do": "release", "scope": "queue:stages"})

        assert [first.status_code, second.status_code, again.status_code] == [200, 200, 409]
        assert "no operator holds it" in again.json()["refused"]
        assert not Hold.objects.active().filter(kind="operator").exists()
        assert "Release</button>" not in text_of(client)

    def test_a_hold_is_released_only_by_who_may(self) -> None:
        run = make_run()
        lifecycle.pause(run.pk, actor=OPERATOR)
        bulk_holds.place(["queue:stages"], mode="drain", actor=OPERATOR)
        Hold.objects.update(created_at=Now() - timedelta(days=2))
        of_runs = signed_in(make_site("theirs"), VIEW, OPERATE, name="stan")
        viewer = signed_in(run.site, VIEW, name="vera")

        answers = [
            of_runs.post("/", {"do": "release", "scope": run.scope}).status_code,
            of_runs.post("/", {"do": "release", "scope": "queue:stages"}).status_code,
            viewer.post("/", {"do": "release", "scope": run.scope}).status_code,
        ]

        assert answers == [409, 409, 403]
        assert Hold.objects.active().count() == 2
        assert "Release</button>" not in text_of(viewer)

    def test_a_frozen_lane_is_shown_to_its_account_and_unfrozen(self) -> None:
        run = make_run()
        freezes.freeze(run.lane, actor=OPERATOR, reason="the index is rebuilt")
        client, stranger = signed_in(run.site, VIEW, OPERATE), signed_in(make_site("b"), VIEW, OPERATE, name="stan")
        assert "is frozen: the index is rebuilt" in text_of(client)
        assert "the index is rebuilt" not in text_of(stranger)
        assert stranger.post("/", {"do": "unfreeze", "lane": run.lane}).status_code == 409

        answer = client.post("/", {"do": "unfreeze", "lane": run.lane})

        assert answer.json()["done"] == f"Lane {run.lane} is unfrozen."
        assert freezes.of_lane(run.lane) is None

    def test_the_verdict_says_that_the_fleet_is_paused(self) -> None:
        run = make_run()
        fleet.pause(mode="drain", reason="new kernel", actor=OPERATOR)

        page = text_of(signed_in(run.site, VIEW))

        assert 'class="verdict is-' in page
        assert "new kernel" in page


class TestCharts:
    def test_throughput_is_what_the_counter_grew_by(self) -> None:
        run = make_run()
        for back, processed, failed in ((4, 100, 0), (3, 160, 0), (1, 200, 30)):
            for name, value in ((PROCESSED.name, processed), (FAILED.name, failed)):
                CounterSample.objects.create(minute=ago(minutes=back), name=name, value=value)

        found = counter_history.increases(PROCESSED, now=database_now())
        page = text_of(signed_in(run.site, VIEW))

        # 60 in the first minute; 40 in two minutes of which the one between was not looked at.
        assert [one.amount for one in found[-4:]] == [60, 20, 20, None]
        assert len(found) == 60
        assert "done <b>100</b>" in page
        assert "failed <b>30</b>" in page

    def test_the_poll_keeps_a_sample_a_minute_of_all_labels_together_and_old_ones_go(self) -> None:
        for labels, value in (("{}", 3), ('{"a": 1}', 4)):
            CounterTotal.objects.create(name=PROCESSED.name, labels=labels, value=value)
        CounterTotal.objects.create(name="slackwater_others_total", labels="", value=9)

        poll()
        poll()

        kept = set(CounterSample.objects.values_list("name", "value"))
        assert kept == {(PROCESSED.name, 7)}
        assert CounterSample.objects.count() in (1, 2), "a minute may have begun"
        CounterSample.objects.update(minute=Now() - timedelta(days=15))
        forget_history()
        assert not CounterSample.objects.exists()

    def test_what_waited_is_drawn_with_a_table_and_a_gap_where_nobody_looked(self) -> None:
        run = make_run()
        for back in (3, 2):
            for work, reason, count in (("all", "all", 7), ("runs", "capacity", 5), ("tasks", "lane", 2)):
                WaitingSample.objects.create(minute=ago(minutes=back), work=work, reason=reason, count=count)

        page = text_of(signed_in(run.site, VIEW))

        assert 'for room on a machine <b>5</b> <span class="muted">(most: 5)' in page
        assert '<td class="number">5</td><td class="number">2</td>' in page
        assert '<td class="number">–</td><td class="number">–</td>' in page

    def test_layers_are_stacked_within_the_scale_and_the_many_are_one(self) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        minutes = [start + timedelta(minutes=step) for step in range(3)]
        samples = {(minutes[0], f"cause {number}"): 10 - number for number in range(9)}

        found = charts.area(samples, {minutes[0], minutes[2]}, minutes)

        assert [layer.name for layer in found.layers] == [*(f"cause {n}" for n in range(6)), "other"]
        assert found.top >= sum(samples.values())
        heights = [float(y) for layer in found.layers for y in re.findall(r"[ML]?[\d.]+ ([\d.]+)", layer.path)]
        assert min(heights) >= 0
        assert max(heights) == 100
        assert found.rows[1] == (minutes[1], [None] * 7)

    @pytest.mark.parametrize(("most", "top"), [(0, 1), (1, 1), (3, 5), (51, 100), (1_000_001, 2_000_000)])
    def test_a_scale_ends_at_a_round_number(self, most: int, top: int) -> None:
        assert charts.nice(most) == top


def test_the_number_of_statements_does_not_grow_with_the_work() -> None:
    run = make_run()
    client = signed_in(run.site, VIEW, OPERATE, FLEET)
    client.get("/")
    with CaptureQueriesContext(connection) as few:
        client.get("/")
    for _ in range(5):
        claim(make_run())
    with CaptureQueriesContext(connection) as many:
        page = client.get("/").content.decode()

    assert page.count("chip chip-running") >= 5
    assert len(many) <= len(few) + 3, [one["sql"][:200] for one in many]
