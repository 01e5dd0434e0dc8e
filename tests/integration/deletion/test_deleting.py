"""A final run can be deleted: nobody sees it any more, and its rows and files go, however often that is broken off."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection

from automation import leases
from automation.errors import TransitionRefused
from automation.gate import standstills
from automation.models import (
    AutomationRun,
    ItemChunk,
    ItemFailure,
    SliceTotals,
    StageRun,
    Standstill,
    WorkItem,
    WorkSlice,
)
from automation.retention import deletion, purge
from automation.runs import failing, retries
from pause_manager.models import ControlEvent
from pause_manager.observability import audit
from tests.support.api_users import RUNS, VIEW, client_of, make_user
from tests.support.factories import OPERATOR, drain, leased, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = (AutomationRun, StageRun, WorkSlice, WorkItem, ItemFailure, SliceTotals, Standstill)


def ended(items: int = 7, **given: Any) -> AutomationRun:
    """A run with outputs, failures, a file and a time at which it stood still, that has ended."""
    run = drain(make_run("failing", items=items, **given))
    assert run.finished_at is not None
    Standstill.objects.create(run=run, code=standstills.NO_FREE_WORKER)
    default_storage.save(f"runs/{run.pk}/failing/deep/notes.md", ContentFile(b"notes"))
    return run


def counts() -> list[int]:
    return [model._default_manager.count() for model in TABLES]


def actions(run: AutomationRun) -> list[str]:
    found = ControlEvent.objects.filter(scope=run.scope).order_by("pk")
    return list(found.values_list("action", flat=True))


def test_all_of_a_deleted_run_goes_and_nothing_of_another():
    kept = ended()
    before = counts()
    run = ended()
    name = f"runs/{run.pk}/failing/deep/notes.md"

    assert deletion.delete(run.pk, actor=OPERATOR, reason="asked for")
    gone = purge.purge()

    assert counts() == before
    assert (gone.runs, gone.items, gone.files) == (1, WorkItem.objects.filter(made_by__run=kept).count(), 1)
    assert not default_storage.exists(name)
    assert not default_storage.exists(f"runs/{run.pk}")
    assert default_storage.exists(f"runs/{kept.pk}/failing/deep/notes.md")
    assert actions(run)[-2:] == ["deleted", "purged"]
    tombstone = ControlEvent.objects.get(scope=run.scope, action="deleted")
    assert (tombstone.reason, tombstone.details["total_items"], tombstone.tenant) == (
        "asked for",
        7,
        kept.site.account_id,
    )


def test_it_leaves_the_lists_at_once_and_for_good(site):
    user = make_user("vera", site, VIEW)
    run = ended(site=site)
    deletion.delete(run.pk, actor=OPERATOR)

    for who in (user, make_user("olga", site, VIEW, "delete_automationrun")):
        api = client_of(who)
        assert api.get(RUNS).data["results"] == []
        assert {api.get(f"{RUNS}{run.pk}/{part}").status_code for part in ("", "progress/", "items/?stage=input")} == {
            404
        }
    assert not AutomationRun.objects.visible_to(user).filter(pk=run.pk).exists()


def test_what_was_broken_off_is_gone_on_with(monkeypatch):
    monkeypatch.setattr(purge, "BATCH", 2)
    run = ended()
    before = counts()
    deletion.delete(run.pk, actor=OPERATOR)

    steps = 0
    while AutomationRun.objects.exists():
        purge.purge(seconds=0)  # one batch, and the process is gone
        steps += 1
        assert AutomationRun.objects.exists() or sum(counts()) == 0
    assert steps > sum(before[2:5]) / 2
    assert actions(run).count("purged") == 1


def test_half_items_go_in_parts_as_well(monkeypatch):
    monkeypatch.setattr(purge, "CHUNKS_AT_ONCE", 2)
    run = ended(items=2)
    stage_run = run.stages.get(position=0)
    for ordinal in range(5):
        ItemChunk.objects.create(stage_run=stage_run, key="000", ordinal=ordinal, rows="000.000\t{}")
    deletion.delete(run.pk, actor=OPERATOR)

    left = []
    while AutomationRun.objects.exists():
        purge.purge(seconds=0)
        left.append(ItemChunk.objects.count())

    assert {5, 3, 1, 0} == set(left)


def test_a_kill_in_the_middle_leaves_nothing_half(monkeypatch):
    """The process ends within the last transaction, which takes stages and run away."""
    run = ended()
    deletion.delete(run.pk, actor=OPERATOR)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(audit, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            purge.purge()
    assert AutomationRun.objects.filter(pk=run.pk, deleted_at__isnull=False).exists()

    assert purge.purge().runs == 1
    assert sum(counts()) == 0


def test_a_run_that_is_not_final_is_refused_and_so_is_one_with_workers():
    run = make_run("scripted")
    work = leased(run)

    with pytest.raises(TransitionRefused, match=r"Cannot delete run .*: it is running\."):
        deletion.delete(run.pk, actor=OPERATOR)
    failing.fail(run.pk, reason="for the test")
    with pytest.raises(TransitionRefused, match="workers are still finishing its items"):
        deletion.delete(run.pk, actor=OPERATOR)
    leases.release(work)

    assert deletion.delete(run.pk, actor=OPERATOR)
    assert not deletion.delete(run.pk, actor=OPERATOR)
    assert actions(run).count("deleted") == 1


def test_the_retry_of_a_deleted_run_lives_on():
    old = ended()
    new = retries.retry_failed(old.pk, actor=OPERATOR)

    deletion.delete(old.pk, actor=OPERATOR)
    purge.purge()

    new.refresh_from_db()
    assert new.retry_of_id is None
    assert drain(new).finished_at is not None


def test_no_check_of_a_reference_reads_a_whole_table():
    """What goes with a stage is found by indexes: those that have none have no reference in the database either."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT conrelid::regclass::text, attribute.attname
              FROM pg_constraint AS reference
              JOIN pg_attribute AS attribute
                ON attribute.attrelid = reference.conrelid AND attribute.attnum = reference.conkey[1]
             WHERE reference.contype = 'f'
               AND reference.confrelid IN ('automation_stagerun'::regclass, 'automation_automationrun'::regclass)
               AND NOT EXISTS (
                    SELECT 1 FROM pg_index WHERE indrelid = reference.conrelid
                       AND indkey[0] = reference.conkey[1] AND indpred IS NULL)
            """
        )
        assert cursor.fetchall() == []


class TestOverHttp:
    @pytest.fixture
    def api(self, site: Any) -> Any:
        return client_of(make_user("dora", site, VIEW, "delete_automationrun"))

    def test_it_asks_for_a_confirmation_and_a_repeat_changes_nothing(self, api, site):
        run = ended(site=site)
        url = f"{RUNS}{run.pk}/"

        assert (api.delete(url).status_code, api.delete(f"{url}?confirmation=").status_code) == (400, 400)
        first = api.delete(f"{url}?confirmation=yes&reason=asked", HTTP_IDEMPOTENCY_KEY="k")
        again = api.delete(f"{url}?confirmation=yes&reason=asked", HTTP_IDEMPOTENCY_KEY="k")
        anew = api.delete(f"{url}?confirmation=yes")
        purge.purge()
        after = api.delete(f"{url}?confirmation=yes")

        assert [answer.status_code for answer in (first, again, anew, after)] == [204] * 4
        assert again.headers["Idempotency-Replayed"] == "true"
        assert actions(run).count("deleted") == 1
        event = ControlEvent.objects.get(scope=run.scope, action="deleted")
        assert (event.actor, event.channel, event.reason) == ("user:dora", "api", "asked")
        assert event.details["confirmation"] == "yes"

    def test_why_not_is_said(self, api, site):
        run = make_run("scripted", site=site)
        refused = api.delete(f"{RUNS}{run.pk}/?confirmation=yes")

        assert (refused.status_code, refused.data["code"], refused.data["status"]) == (
            409,
            "transition_refused",
            "running",
        )
        assert AutomationRun.objects.filter(pk=run.pk, deleted_at=None).exists()

    def test_others_do_not_learn_that_there_was_one(self, api, site):
        run = ended(site=site)
        api.delete(f"{RUNS}{run.pk}/?confirmation=yes")
        stranger = client_of(make_user("sven", make_site("elsewhere"), VIEW, "delete_automationrun"))

        assert stranger.delete(f"{RUNS}{run.pk}/?confirmation=yes").status_code == 404


@pytest.fixture
def site() -> Any:
    return make_site("ours")


def test_the_admin_asks_first_and_only_who_may_delete_can(client):
    run, at_work = ended(), make_run("scripted")
    url = "/admin/automation/automationrun/"
    chosen = {"action": "delete_runs_selected", "_selected_action": [str(run.pk), str(at_work.pk)]}
    for name, *more in (("vera",), ("dora", "delete_automationrun")):
        user = make_user(name, run.site, VIEW, *more)
        user.is_staff = True
        user.save()
        client.force_login(user)
        asked = client.post(url, chosen)
        client.post(url, {**chosen, "confirmed": "yes", "reason": "asked for"}) if name == "vera" else None
        assert AutomationRun.objects.filter(deleted_at=None).count() == 2
    assert "deleted for good" in asked.content.decode()

    answer = client.post(url, {**chosen, "confirmed": "yes", "reason": "asked for"}, follow=True)

    assert [str(message) for message in answer.context["messages"]] == [
        "Deleted 1 run.",
        f"Cannot delete run {at_work.pk}: it is running.",
    ]
    assert ControlEvent.objects.get(scope=run.scope, action="deleted").channel == "admin"
