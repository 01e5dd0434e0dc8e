"""A closed site takes no runs, by any door; an account closes all of its sites."""

from __future__ import annotations

import threading

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from automation.errors import ClosingRefused, SiteClosed
from automation.models import Account, AutomationRun, Site
from automation.retention import closure
from automation.runs import creation, retries
from pause_manager.models import ControlEvent
from tests.support.api_users import OPERATE, RUNS, VIEW, client_of, make_user
from tests.support.factories import OPERATOR, drain, leased, make_run, make_site
from tests.support.pipelines import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_takes_no_runs_until_it_is_reopened():
    site = make_site("ours")
    failed = drain(make_run("failing", items=7, site=site))

    assert closure.close_site(site, actor=OPERATOR, reason="the contract has ended")
    assert not closure.close_site(site, actor=OPERATOR)
    with pytest.raises(SiteClosed, match=r"Cannot create a run for site ours: it has been closed since 20"):
        make_run(site=site)
    with pytest.raises(SiteClosed):
        retries.retry_failed(failed.pk, actor=OPERATOR)
    assert AutomationRun.objects.count() == 1
    assert closure.reopen(site, actor=OPERATOR)
    assert not closure.reopen(site, actor=OPERATOR)

    assert make_run(site=site).lifecycle == "running"
    told = ControlEvent.objects.filter(scope=f"site:{site.pk}").order_by("pk").values_list("action", "reason")
    assert list(told) == [("closed", "the contract has ended"), ("reopened", "")]


def test_unfinished_runs_are_in_its_way_unless_they_are_cancelled():
    site = make_site("ours")
    at_work, idle = make_run("scripted", site=site), make_run(site=site, start=False)
    work = leased(at_work)

    with pytest.raises(ClosingRefused, match="it has 2 unfinished runs"):
        closure.close_site(site, actor=OPERATOR)
    assert Site.objects.get().closed_at is None
    assert closure.close_site(site, actor=OPERATOR, cancels_runs=True)

    idle.refresh_from_db()
    at_work.refresh_from_db()
    assert (idle.lifecycle, at_work.cancel_requested_at is not None, work.phase) == ("cancelled", True, 1)


def test_an_account_closes_its_sites_over_http_too(settings):
    site, other = make_site("ours"), make_site("theirs")
    api = client_of(make_user("olga", site, VIEW, OPERATE))
    call_command("close", "--account", site.account.name, "--reason", "asked for")

    refused = api.post(RUNS, {"pipeline": "numbers", "site": "ours", "items": [{"n": 1}]})

    assert (refused.status_code, refused.data["code"]) == (409, "site_closed")
    assert make_run(site=other).lifecycle == "running"
    call_command("close", "--account", site.account.name, "--reopen")
    assert Account.objects.filter(closed_at=None).count() == 2


def test_a_run_that_is_being_created_is_seen_or_refused():
    """Whoever closes waits for a creation that is under way; the creation after it is refused."""
    site = make_site("ours")
    outcome: list[BaseException] = []

    def close() -> None:
        try:
            closure.close_site(site, actor=OPERATOR)
        except ClosingRefused as refusal:
            outcome.append(refusal)
        finally:
            connection.close()

    with transaction.atomic():
        creation.create("numbers", site=site, actor=OPERATOR, items=[{"n": 1}], start=False)
        closer = threading.Thread(target=close)
        closer.start()
        wait_until(lambda: _waiting() == 1)
    closer.join()

    assert [str(refusal) for refusal in outcome] == [
        "Cannot close site ours: it has 1 unfinished run. Let them end, or have them cancelled with it."
    ]


def _waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])
