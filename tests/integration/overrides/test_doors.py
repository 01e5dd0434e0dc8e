"""Overrides over HTTP, from the shell and in the admin."""

from __future__ import annotations

from datetime import datetime

import pytest

from automation.runs import lifecycle
from pause_manager import nodes
from pause_manager.models import ControlEvent, Override
from tests.support.api_users import VIEW, client_of, make_user
from tests.support.factories import OPERATOR, make_run, make_site
from tests.support.node_factories import make_node

URL = "/api/v1/overrides/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def boss():
    return client_of(make_user("olga", None, "operate_fleet"))


def body(**more: object) -> dict[str, object]:
    given = {"kind": "node_threshold", "target": "n1", "value": "40%", "expires_in_seconds": 7200, "reason": "loud"}
    return {**given, **more}


class TestOverHttp:
    def test_one_is_set_listed_and_ended(self, boss):
        make_node()

        made = boss.post(URL, body())

        assert made.status_code == 201
        told = made.json()
        assert (told["scope"], told["value"], told["actor"], told["reason"]) == ("node:n1", 0.4, "user:olga", "loud")
        lasts = datetime.fromisoformat(told["expires_at"]) - datetime.fromisoformat(told["created_at"])
        assert lasts.total_seconds() == 7200
        assert [one["id"] for one in boss.get(URL).json()] == [told["id"]]
        ended = boss.delete(f"{URL}{told['id']}/")
        again = boss.delete(f"{URL}{told['id']}/")
        assert (ended.status_code, again.status_code) == (200, 200)
        assert ended.json()["outcome"] == "ended by an operator: the threshold is that of the settings again"
        assert again.json() == ended.json()
        assert (boss.get(URL).json(), len(boss.get(f"{URL}?ended=true").json())) == ([], 1)
        assert ControlEvent.objects.filter(action="override_ended").count() == 1

    def test_a_repeat_with_its_key_sets_one(self, boss):
        make_node()

        first = boss.post(URL, body(), headers={"Idempotency-Key": "1"})
        second = boss.post(URL, body(), headers={"Idempotency-Key": "1"})

        assert first.json() == second.json()
        assert Override.objects.count() == 1

    @pytest.mark.parametrize(
        ("given", "status", "code"),
        [
            ({"kind": "colour"}, 400, "override_invalid"),
            ({"value": "140%"}, 400, "override_invalid"),
            ({"value": True}, 400, "invalid"),
            ({"value": {"a": 1}}, 400, "invalid"),
            ({"expires_in_seconds": 0}, 400, "invalid"),
            ({"expires_in": 5}, 400, "invalid"),
            ({"target": "nowhere"}, 404, "not_found"),
            ({"target": "n 1"}, 400, "invalid"),
        ],
    )
    def test_what_is_wrong_is_refused(self, boss, given, status, code):
        make_node()

        answer = boss.post(URL, body(**given))

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not Override.objects.exists()

    def test_an_end_of_none_is_not_found(self, boss):
        assert [boss.delete(f"{URL}{number}/").status_code for number in ("999", "x", "9" * 30)] == [404] * 3

    def test_a_run_that_has_ended_is_refused(self, boss):
        run = make_run("few", items=3)
        boss_of_all = client_of(make_user("root", None))
        assert boss_of_all.post(URL, body(kind="run_priority", target=str(run.pk), value=1)).status_code == 403
        lifecycle.cancel(run.pk, actor=OPERATOR)

        answer = boss.post(URL, body(kind="run_priority", target=str(run.pk), value=1))

        assert (answer.status_code, answer.json()["code"]) == (409, "override_refused")

    def test_others_see_none_of_runs_and_change_none(self, boss):
        make_node()
        site = make_site()
        run = make_run("few", items=3, site=site)
        boss.post(URL, body(kind="run_priority", target=str(run.pk), value=1))
        made = boss.post(URL, body()).json()
        reader = client_of(make_user("rita", site, VIEW))

        assert [one["target"] for one in reader.get(URL).json()] == ["n1"]
        assert reader.post(URL, body()).status_code == 403
        assert reader.delete(f"{URL}{made['id']}/").status_code == 403
        assert client_of(None).get(URL).status_code in (401, 403)


class TestFromTheShell:
    def test_one_is_set_listed_and_ended(self, shell):
        make_node()

        told = shell("override", "set", "node_threshold", "n1", "40%", "--for", "2h", "--reason", "loud")

        assert told.code == 0
        override = Override.objects.get()
        assert told.out.startswith(f"{override.pk}  threshold of node n1 is 40% until ")
        [listed] = shell("override", "list", "--json").objects
        assert (listed["id"], listed["value"], listed["reason"]) == (override.pk, 0.4, "loud")
        ended = shell("override", "end", str(override.pk))
        assert "(ended by an operator: the threshold is that of the settings again)" in ended.out
        assert shell("override", "list").out == ""
        assert str(override.pk) in shell("override", "list", "--ended").out
        assert nodes.live_nodes()[0].pause_below is None

    @pytest.mark.parametrize(
        ("words", "code", "sentence"),
        [
            (("set", "colour", "n1", "1", "--for", "2h"), 2, "expected lane_width, node_threshold, "),
            (("set", "node_threshold", "nowhere", "1", "--for", "2h"), 4, "none of that name is known"),
            (("set", "node_threshold", "n1", "1", "--for", "soon"), 2, "expected a time such as 90s, 10m or 2h"),
            (("end", "77"), 4, "there is none of that number"),
            ((), 2, "expected manage.py override set, end or list"),
        ],
    )
    def test_what_is_wrong_is_refused_with_its_exit_code(self, shell, words, code, sentence):
        make_node()

        ended = shell("override", *words)

        assert ended.code == code
        assert sentence in ended.err

    def test_the_help_of_set_names_every_kind(self, shell):
        told = shell("override", "set", "--help").out

        assert all(
            kind in told for kind in ("node_threshold", "pipeline_threshold", "stage_concurrency", "run_priority")
        )


class TestInTheAdmin:
    def test_it_is_listed_and_ended_and_cannot_be_changed(self, admin_client, boss):
        make_node()
        made = boss.post(URL, body()).json()
        page = "/admin/pause_manager/override/"

        form = {"action": "end_overrides", "_selected_action": [made["id"]], "reason": "enough"}
        told = admin_client.post(page, form, follow=True).content.decode()
        again = admin_client.post(page, form, follow=True).content.decode()

        assert "Ended the override of node_threshold of n1" in told
        assert "it has ended already" in again
        event = ControlEvent.objects.get(action="override_ended")
        assert (event.channel, event.reason) == ("admin", "enough")
        assert admin_client.get(f"{page}add/").status_code == 403
