"""A revoke of what is parked lasts: the worker that heard of it may be gone when the task goes on."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import current_app

from pause_manager.models import ControlEvent, PauseQueueEntry
from pause_manager.pausable import confirmations, parked_messages
from tests.integration.pausable.canvas.test_plain_signatures import PLAIN, park, send
from tests.support.deliveries import delivery
from tests.support.foreign_project import Foreign, hold, reconciled, release, waiting
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


def without_ids(told: list[Any]) -> list[Any]:
    return [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", str(part)) for part in told]


def are_marked(count: int) -> bool:
    return bool(eventually(lambda: PauseQueueEntry.objects.filter(revoked_at__isnull=False).count() == count))


@pytest.mark.slow
def test_a_parked_member_of_a_chord_that_is_revoked_ends_as_celery_ends_it(foreign: Foreign):
    plain = {"FOREIGN_TASK_CLS": "celery:Task"}
    foreign.worker("one", **plain)
    *_, last, body = foreign.desk(**plain).ask("chorded", 3, [1, 2, 3])
    foreign.are_taken([last])
    foreign.desk(**plain).ask("revoke", last)
    expected = [without_ids(foreign.ended(last)), without_ids(foreign.ended(body))]
    assert expected[0][0] == "REVOKED"
    foreign.workers.stop("one")

    foreign.worker("one")
    *_, last, body = foreign.desk().ask("chorded", 3, [4, 5, 6])
    foreign.are_taken([last])
    assert eventually(lambda: len(foreign.notes("add")) == 4)
    hold()
    assert waiting(1)
    foreign.desk().ask("revoke", last)
    assert are_marked(1)
    foreign.workers.stop("one")
    foreign.worker("two")
    release()

    assert without_ids(foreign.ended(last)) == expected[0]
    assert without_ids(foreign.ended(body)) == expected[1]
    assert ["add", 6, 6] not in foreign.notes()
    entry = PauseQueueEntry.objects.get()
    assert eventually(lambda: PauseQueueEntry.objects.get().outcome == "revoked")
    assert ControlEvent.objects.filter(action="revoked", scope=entry.ref).count() == 1


@pytest.mark.slow
def test_a_task_that_acknowledges_late_and_one_that_needs_room_are_revoked_too(foreign: Foreign):
    late = {"FOREIGN_ACKS_LATE": "1"}
    foreign.worker("one", **late)
    ids = foreign.keep(("add", 1, 1), ("needy", "a"))
    foreign.desk().ask("revoke", ids)
    assert are_marked(2)
    foreign.workers.stop("one")
    foreign.worker("two", FOREIGN_CAPACITY="1", **late)

    release()

    assert [foreign.ended(one)[0] for one in ids] == ["REVOKED", "REVOKED"]
    assert foreign.notes() == []
    assert reconciled(lambda: not PauseQueueEntry.objects.unconfirmed().exists()), (
        list(PauseQueueEntry.objects.values()),
        foreign.workers.said("two")[-3000:],
    )


def test_what_is_revoked_in_a_workers_hand_is_not_parked_any_more(foreign: Foreign):
    foreign.worker("one")
    sent = foreign.send("add", 1, 1, countdown=60)
    foreign.are_taken([sent])
    foreign.desk().ask("revoke", sent)
    assert eventually(lambda: f"Tasks flagged as revoked: {sent}" in foreign.workers.said("one"))

    hold()

    assert foreign.ended(sent)[0] == "REVOKED"
    assert not PauseQueueEntry.objects.exists()


@pytest.mark.slow
def test_a_rest_is_revoked_and_the_next_message_of_its_id_is_not(foreign: Foreign):
    foreign.worker("one")
    sent = foreign.send("slow", "a", 4, task_id="used-again")
    assert eventually(lambda: foreign.notes("piece"))
    foreign.desk().ask("revoke", sent)
    assert eventually(lambda: "Tasks flagged as revoked" in foreign.workers.said("one"))
    hold(mode="quiesce")
    assert waiting(1)
    assert are_marked(1), "it ran when it was revoked, and its rest is not to"
    foreign.workers.stop("one")
    foreign.worker("two")
    release()
    assert foreign.ended(sent)[0] == "REVOKED"
    pieces = len(foreign.notes("piece"))

    foreign.send("add", 2, 2, task_id="used-again")

    assert eventually(lambda: foreign.notes("add") == [["add", 2, 2]])
    assert len(foreign.notes("piece")) == pieces


@pytest.mark.slow
def test_a_parked_signature_of_a_task_that_is_not_pausable_is_revoked(foreign: Foreign):
    foreign.worker("one", **PLAIN)
    entry = park("import:1", "add", 1, 1)
    foreign.desk().ask("revoke", f"parked-{entry.pk}")
    assert are_marked(1)
    foreign.workers.stop("one")
    foreign.worker("two", **PLAIN)

    assert send(entry) == 1

    assert foreign.ended(f"parked-{entry.pk}")[0] == "REVOKED"
    assert foreign.notes() == []


def test_a_revoke_by_stamps_marks_what_carries_one_of_them_and_nothing_else():
    @current_app.task(name="stamped")
    def stamped(*args, **kwargs): ...

    def kept_with(**headers: Any) -> PauseQueueEntry:
        one = delivery(stamped, **headers)
        return PauseQueueEntry.objects.get(pk=parked_messages._park(one, None, "a hold"))

    green = kept_with(stamped_headers=["colour"], stamps={"colour": "green"})
    several = kept_with(stamped_headers=["colour"], stamps={"colour": ["red", "blue"]})
    other = kept_with(stamped_headers=["shape"], stamps={"shape": "green"})
    bare = kept_with()
    sent = kept_with(stamped_headers=["colour"], stamps={"colour": "green"})
    PauseQueueEntry.objects.filter(pk=sent.pk).update(outcome="sent", finished_at=sent.paused_at, generation=1)

    assert confirmations.mark_revoked(stamps={"colour": ["green", "blue"]}) == 3
    assert confirmations.mark_revoked(stamps={"colour": ["green", "blue"]}) == 0, "once is enough"

    marked = set(PauseQueueEntry.objects.filter(revoked_at__isnull=False).values_list("pk", flat=True))
    assert marked == {green.pk, several.pk, sent.pk}
    assert confirmations.mark_revoked([other.message["headers"]["id"], "no-such-task"]) == 1  # type: ignore[index]
    assert not confirmations.is_revoked((bare.pk, 1))
