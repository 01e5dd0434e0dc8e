"""Whatever Celery accepts is kept while held, and the fleet is drained only then; it runs once, as it came."""

from __future__ import annotations

import datetime
import decimal
import os
import pickle
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import current_app

from tests.support.workers import eventually

if TYPE_CHECKING:
    from tests.support.foreign_project import Foreign

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

TOLD = "foreign-told"
TELLS = "tests.foreign.echo_task.tells"
LONG_TASK = "tests.foreign.echo_task." + "x" * 300
QUEUE = "foreign"
LONG_QUEUE = "q" * 180
WORKER = ("-Q", f"{QUEUE},{LONG_QUEUE}", "-c", "2")
DUE_SECONDS = 5.0
MIB = 2**20

Message = dict[str, Any]

HEADERS: dict[str, Any] = {
    "a NUL": "a\0b",
    "a lone surrogate": "\ud800",
    "bytes": b"\xff\0\xfe",
    "a date": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC),
    "a decimal": decimal.Decimal("1.10"),
    "a UUID": uuid.UUID(int=5),
    "a large number": 2**70,
    "what is not a number": float("inf"),
    "a tree": {"a": [{"b": [None, True, {"c\0": "\0"}]}]},
    "a MiB": "h" * MIB,
    "nothing": None,
}
SERIALISERS = ("json", "pickle", "yaml")
ACCEPTED = ",".join(SERIALISERS)
COMPRESSIONS = (None, "zlib", "bzip2", "lzma")


def messages() -> dict[str, Message]:
    """By what is odd about it: the options of ``send_task``, ``name`` and ``args`` besides."""
    found: dict[str, Message] = {
        f"{what} in a header": {"args": [1], "headers": {"x-odd": value}} for what, value in HEADERS.items()
    }
    found |= {
        f"{serialiser} by {compression}": {
            "args": [serialiser, ["é\u2028" * 100]],
            "serializer": serialiser,
            "compression": compression,
        }
        for serialiser in SERIALISERS
        for compression in COMPRESSIONS
    }
    found |= {
        "a body of 8 MiB": {"args": ["b" * 8 * MIB]},
        "a packed body of 8 MiB": {"args": ["b" * 8 * MIB], "compression": "zlib"},
        "a set and bytes as arguments": {"args": [{1, 2}, b"\0\xff"], "serializer": "pickle"},
        "a NUL and a surrogate as arguments": {"args": ["\0", "\ud800"], "kwargs": {"\0": "\0"}},
        "a long task name": {"name": LONG_TASK, "args": [1]},
        "a long queue name": {"args": [1], "queue": LONG_QUEUE},
        "a long task id": {"args": [1], "task_id": "i" * 400},
        "a NUL in the task id": {"args": [1], "task_id": f"a\0b-{uuid.uuid4()}"},
        "a NUL in the shadow name": {"args": [1], "shadow": "a\0b"},
        "a name for a reply": {"args": [1], "reply_to": "r" * 300, "correlation_id": "c" * 300},
        "a long stamp": {"args": [1], "headers": {"stamps": {"s\0": ["t" * 5000]}, "stamped_headers": ["s\0"]}},
    }
    return found


class Post:
    """Sends messages to the foreign project's worker, and knows what their tasks told."""

    def __init__(self) -> None:
        self.store: Any = redis.Redis.from_url(os.environ["REDIS_URL"])

    def send(self, messages: dict[str, Message], **more: Any) -> None:
        for what, message in messages.items():
            options = {"queue": QUEUE, "name": TELLS, "kwargs": {}, **message, **more}
            options["kwargs"] = {**options["kwargs"], "what": what}
            current_app.send_task(**options)

    def told(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for line in self.store.lrange(TOLD, 0, -1):
            what, told = pickle.loads(line)
            found.setdefault(what, []).append(told)
        return found

    def told_by_celery_alone(self, foreign: Foreign, messages: dict[str, Message]) -> dict[str, list[Any]]:
        """What they tell in a worker whose tasks are not pausable."""
        foreign.worker("plain", *WORKER, FOREIGN_TASK_CLS="celery:Task", FOREIGN_ACCEPT=ACCEPTED)
        self.send(messages)
        assert eventually(lambda: len(self.told()) == len(messages), 40), set(messages) - set(self.told())
        foreign.workers.stop("plain")
        told = self.told()
        self.store.delete(TOLD)
        return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "acks"),
    [
        ("prefork", "early"),
        ("prefork", "late"),
        ("threads", "early"),
    ],
)
def test_whatever_celery_accepts_is_kept_and_runs_once_as_it_came(foreign: Foreign, pool: str, acks: str):
    from pause_manager.fleet import drain
    from pause_manager.models import PauseQueueEntry
    from tests.support.foreign_project import hold, reconciled, release

    post, odd = Post(), messages()
    by_celery = post.told_by_celery_alone(foreign, odd)
    env = {"FOREIGN_ACCEPT": ACCEPTED, "FOREIGN_ACKS_LATE": str(int(acks == "late"))}
    foreign.worker("one", *WORKER, "-P", pool, **env)
    post.send(odd, countdown=DUE_SECONDS)
    assert eventually(lambda: foreign.workers.said("one").count("] received") == len(odd)), "all are in its hand"

    hold()

    def is_kept() -> bool:
        return PauseQueueEntry.objects.waiting().count() == len(odd) and drain.measure().is_drained

    kept = eventually(is_kept, 30)
    waiting = PauseQueueEntry.objects.waiting().count()
    assert post.told() == {}
    release()
    reconciled(lambda: len(post.told()) == len(odd), 30)
    told = post.told()
    assert sorted(what for what in odd if what not in told) == [], f"these never ran; {waiting} of {len(odd)} were kept"
    assert sorted(what for what in odd if len(told[what]) > 1) == [], "these ran twice"
    assert sorted(what for what in odd if told[what] != by_celery[what]) == [], "these changed on their way"
    assert kept, f"{waiting} of {len(odd)} were kept, and then the fleet was not drained"
    assert reconciled(lambda: not PauseQueueEntry.objects.unconfirmed().exists(), 20)
    foreign.workers.stop("one")
