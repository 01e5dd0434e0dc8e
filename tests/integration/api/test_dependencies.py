"""Dependencies of runs over HTTP and on the command line: declared, added, released; never those of another account."""

from __future__ import annotations

import pytest

from automation.runs import lifecycle
from tests.support.api_users import RUNS
from tests.support.factories import OPERATOR, drain, events, make_run
from tests.support.lane_runs import again, states

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_is_created_behind_another_with_a_priority(api, site):
    first = make_run(items=1, site=site)

    made = api.post(
        RUNS, {"pipeline": "numbers", "site": site.slug, "items": [{"n": 1}], "after": [str(first.pk)], "priority": 1}
    )

    assert (made.status_code, made.data["status"]) == (201, "waiting")
    assert again(first).dependents.get().run.priority == 1
    drain(first)
    assert str(again(first).dependents.get().run.lifecycle) == "running"


@pytest.mark.req("A-36")
def test_a_run_of_another_account_is_not_there_to_wait_for(api, site, their_site):
    theirs, ours = make_run(items=1, site=their_site), make_run(items=1, site=site, start=False)
    body = {"pipeline": "numbers", "site": site.slug, "items": [{"n": 1}], "after": [str(theirs.pk)]}

    answers = [
        api.post(RUNS, body),
        api.post(f"{RUNS}{ours.pk}/dependencies/", {"after": [str(theirs.pk)]}),
        api.post(f"{RUNS}{theirs.pk}/dependencies/", {"after": [str(ours.pk)]}),
    ]

    assert [answer.status_code for answer in answers] == [409, 409, 404]
    assert {answer.data["code"] for answer in answers[:2]} == {"dependency_refused"}


def test_dependencies_are_added_and_released(api, site):
    first, last = make_run(items=1, site=site), make_run(items=1, site=site, start=False)
    url = f"{RUNS}{last.pk}/dependencies/"

    assert api.post(url, {"after": [str(first.pk)]}).status_code == 200
    circle = api.post(f"{RUNS}{first.pk}/dependencies/", {"after": [str(last.pk)]})
    assert (circle.status_code, circle.data["code"]) == (409, "dependency_refused")
    lifecycle.start_run(last.pk, actor=OPERATOR)
    assert states(last) == ["pending"]
    assert api.post(f"{url}release/", {"after": str(first.pk)}).status_code == 400, "it needs a reason"
    done = api.post(f"{url}release/", {"after": str(first.pk), "reason": "it is there already"})

    assert (done.status_code, done.data["status"]) == (200, "running")
    assert [event.reason for event in events(last, "dependency_released")] == ["it is there already"]
    assert api.post(url, {"after": []}).status_code == 400


def test_the_command_line_does_the_same(shell, site):
    first = make_run(items=1, site=site)
    done = shell(
        *("run_pipeline", "drill", "--site", site.slug, "--param", "items=1", "--priority", "2"),
        *("--after", str(first.pk)),
    )
    assert done.code == 0, done.err
    assert f"It waits for run {str(first.pk)[:8]} (numbers), which is running, to complete." in done.out
    last = again(first).dependents.get().run
    assert last.priority == 2

    assert shell("dependency", "list", str(last.pk)).out == f"{first.pk}  waits\n"
    assert shell("dependency", "add", str(last.pk), "--after", str(last.pk)).code == 3
    assert shell("dependency", "release", str(last.pk), "--after", str(first.pk)).code == 2
    told = shell("dependency", "release", str(last.pk), "--after", str(first.pk), "--reason", "not needed", "--json")
    assert told.objects[0]["released"] == str(first.pk)
    assert "released by shell:" in shell("dependency", "list", str(last.pk)).out
    assert states(last) == ["running"]
    assert shell("dependency", "release", str(last.pk), "--after", str(first.pk), "--reason", "again").code == 3
    other = make_run(items=1, site=site, start=False)
    assert shell("dependency", "add", str(other.pk), "--after", str(first.pk)).out.endswith("waits for 1 more run.\n")
