"""Tasks of all sorts. Each writes a line into the ledger, a list in Redis, as it starts."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import lru_cache
from typing import Any

import redis
from celery import Task, current_task, shared_task
from celery.exceptions import Reject
from celery.worker.request import Request
from django.db import connection

from pause_manager.observability import metrics
from tests.foreign.celery import app

LEDGER = "foreign-ledger"


@lru_cache
def store() -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"])


def note(what: str, *args: Any) -> None:
    store().rpush(LEDGER, json.dumps([what, *args]))


@shared_task
def add(x, y):
    note("add", x, y)
    return x + y


@shared_task(bind=True, acks_late=True)
def dies(self, times):
    """Has its message dead-lettered so often before it ends."""
    before = [json.loads(line) for line in store().lrange(LEDGER, 0, -1)].count(["dies", times])
    note("dies", times)
    if before < times:
        raise Reject("not yet", requeue=False)
    note("lives", times)


@shared_task
def total(numbers):
    note("total", sorted(numbers))
    return sum(numbers)


@shared_task
def fail(why="broken"):
    note("fail", why)
    raise ValueError(why)


@shared_task
def on_error(request, error, traceback):
    note("on_error", type(error).__name__)


@shared_task(bind=True, max_retries=3)
def flaky(self, times):
    note("flaky", self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=0.3)
    return self.request.retries


@shared_task(autoretry_for=(KeyError,), retry_backoff=1, retry_jitter=False, max_retries=1)
def gives_up():
    note("gives_up")
    raise KeyError("never")


@shared_task(rate_limit="20/s")
def limited(number):
    note("limited", number)
    return number


@shared_task(ignore_result=True)
def silent(number):
    note("silent", number)
    return number


@shared_task(bind=True)
def replaced(self, x):
    note("replaced", x)
    raise self.replace(add.s(x, 1) | add.s(10))


@shared_task(bind=True)
def spawns(self):
    note("spawns")
    add.delay(100, 1)
    silent.delay(100)
    return "spawned"


@shared_task
def size(things):
    note("size", len(things))
    return len(things)


@shared_task(bind=True)
def who(self, tag=None):
    """What a task can know of its own message."""
    note("who", tag)
    request = self.request
    return {
        "id": request.id,
        "root": request.root_id,
        "parent": request.parent_id,
        "correlation": request.correlation_id,
        "is_correlated": request.correlation_id == request.id,
        "group": bool(request.group),
        "group_index": request.group_index,
        "retries": request.retries,
        "timelimit": request.timelimit,
        "priority": request.delivery_info["priority"],
        "routing_key": request.delivery_info["routing_key"],
        "exchange": request.delivery_info["exchange"],
        "headers": {name: value for name, value in (request.headers or {}).items() if name != "redelivered"},
        "reply_to": bool(request.reply_to),
        "origin": bool(request.origin),
        "ignore_result": request.ignore_result,
        "stamps": request.stamps,
        "shadow": request.shadow,
        "expires": bool(request.expires),
        "eta": bool(request.eta),
        "is_current": current_task.request.id == request.id,
    }


class Hooks(app.Task):  # type: ignore[misc, name-defined]
    """A base class of the foreign project's own, over whatever the app's is."""

    abstract = True

    def before_start(self, task_id, args, kwargs):
        note("before_start", *args)

    def on_success(self, retval, task_id, args, kwargs):
        note("on_success", *args)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note("on_failure", *args)

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note("after_return", status, *args)

    def __call__(self, *args, **kwargs):
        note("call", *args)
        return super().__call__(*args, **kwargs)


@shared_task(base=Hooks)
def hooked(x):
    if x < 0:
        raise ValueError(x)
    return x


@shared_task(bind=True)
def slow(self, name, seconds, pieces=10):
    """Works piece by piece, and leaves when it is told to."""
    note("slow", name, pieces)
    for piece in range(pieces):
        should_stop, reason = self.check_should_stop()
        if should_stop:
            note("left", name, piece, reason)
            raise self.park(name, seconds, pieces=pieces - piece)
        time.sleep(seconds / 10)
        note("piece", name)
    return name


@shared_task(bind=True, acks_late=True)
def rejects(self):
    note("rejects")
    if store().incr("rejected") == 1:
        raise Reject("not now", requeue=True)
    return "taken"


@shared_task(base=app.Task, pausable=False)
def unheld():
    note("unheld")


@shared_task
def joined(names):
    note("joined", sorted(names))
    return sorted(names)


class Own(Request):
    """A class of request of the foreign project's own, as packages have them."""

    def on_accepted(self, pid, time_accepted):
        note("accepted")
        super().on_accepted(pid, time_accepted)


@shared_task(Request=Own)  # type: ignore[call-overload]
def asks(name):
    note("asks", name)


@shared_task(Request=Own, base=Task)
def asks_nobody(name, seconds):
    note("asks_nobody", name)
    time.sleep(seconds)
    note("asks_nobody-end", name)


@shared_task
def steady(name, seconds):
    note("steady", name)
    time.sleep(seconds)
    note("steady-end", name)
    return name


@shared_task(base=app.Task, needs={"cpu": 1.0})
def needy(name):
    note("needy", name)
    return name


@shared_task(bind=True, base=app.Task, needs={"cpu": 2})
def patient(self, name, first=0):
    """Works piece by piece until it is enough, and leaves when it is told to."""
    note("patient", name, first)
    piece = first
    while not store().exists("enough"):
        should_stop, reason = self.check_should_stop()
        if should_stop:
            note("left", name, piece, reason)
            raise self.park(name, first=piece)
        time.sleep(0.05)
        note("piece", name, piece)
        piece += 1
    return piece


@shared_task(base=app.Task, needs={"cpu": 2})
def deaf():
    """Works until it is enough, and asks nobody."""
    note("deaf")
    while not store().exists("enough"):
        time.sleep(0.05)
    return "done"


@shared_task
def count(key):
    """Writes that it starts and, as its last act, that it is done: both on PostgreSQL's clock, with its process."""
    entered("starts", key)
    time.sleep(0.05 + (hash(key) % 10) / 50)
    entered("done", key)
    return key


@shared_task(bind=True)
def steps(self, key, first=0):
    """Ten pieces of work, left at a boundary when told to."""
    for piece in range(first, 10):
        should_stop, _ = self.check_should_stop()
        if should_stop:
            raise self.park(key, first=piece)
        entered("starts", f"{key}/{piece}")
        time.sleep(0.1)
        entered("done", f"{key}/{piece}")
    return key


@shared_task
def gathered(keys, key):
    entered("starts", key)
    entered("done", key)
    return len(keys)


def entered(what: str, key: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO foreign_ledger (what, key, pid) VALUES (%s, %s, %s)", [what, str(key), os.getpid()])


COUNTED = metrics.counter("foreign_counted_total", "What tasks of this project have counted.")


@shared_task
def counts():
    COUNTED.add()


@shared_task(base=Task, pausable=False)
def counts_only():
    """Ours in nothing but that it counts."""
    COUNTED.add()


@shared_task(bind=True)
def leaves_nonsense(self):
    raise self.park(object())


if os.environ.get("FOREIGN_RELEASE") == "2":

    @shared_task
    def bill_card(number):
        note("bill", number)
        return number

else:

    @shared_task
    def bill(number):
        note("bill", number)
        return number


@shared_task(bind=True, base=app.Task, acks_late=True, retry_on_worker_lost=True, default_retry_delay=1)
def lost_once(self):
    """The first process that runs it is killed; Celery's main process makes the retry."""
    note("lost_once", self.request.retries)
    if not self.request.retries:
        os.kill(os.getpid(), signal.SIGKILL)
    return self.request.retries


@shared_task(bind=True, max_retries=3)
def flaky_slowly(self, times):
    """Retries by whole seconds, as the broker delays."""
    note("flaky_slowly", self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=2)
    return self.request.retries


@shared_task(bind=True, base=app.Task, needs={"cpu": 0, "gpu_memory_mib": 8000})
def on_gpu(self, seconds=0):
    """Tells its GPUs, and what this process may see."""
    note("on_gpu", [vars(gpu) for gpu in self.gpus], os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid())
    time.sleep(seconds)


@shared_task(bind=True, base=app.Task, needs={"cpu": 0, "gpus": 1}, isolate_gpus=True)
def on_its_gpu(self, seconds=0, with_cuda=True):
    """Starts CUDA, and tells what that sees."""
    from tests.support.nvml.driver import start_cuda

    seen = start_cuda() if with_cuda else os.environ.get("CUDA_VISIBLE_DEVICES")
    note("on_its_gpu", [gpu.uuid for gpu in self.gpus], seen, os.getpid())
    time.sleep(seconds)


@shared_task
def starts_cuda():
    from tests.support.nvml.driver import start_cuda

    note("starts_cuda", start_cuda(), os.getpid())


@shared_task(bind=True, base=app.Task, uses=("provider",))
def asks_provider(self, name, seconds=0.0, pieces=10):
    """Asks for as long as it takes, piece by piece; leaves when it is told to; "too much" if the test says so."""
    if store().get("provider-is-full"):
        note("too much", name)
        raise self.try_later(2)
    note("asked", name, time.time(), store().incr("provider-at-once"))
    try:
        for piece in range(pieces):
            should_stop, reason = self.check_should_stop()
            if should_stop:
                note("left", name, piece, reason)
                raise self.park(name, seconds, pieces=pieces - piece)
            time.sleep(seconds / 10)
            note("piece", name)
    finally:
        store().decr("provider-at-once")
    note("answered", name)
    return name


@shared_task(
    bind=True,
    base=app.Task,
    on_exhausted="hold",
    autoretry_for=(ValueError,),
    max_retries=2,
    default_retry_delay=0,
    acks_late=True,
)
def may_fail(self, name):
    """Fails while the test says so, with two retries; then a person is asked."""
    note("tried", name, self.request.retries)
    if store().get("is-broken"):
        raise ValueError(f"{name} is broken")
    note("done", name)
    return name


@shared_task(bind=True, base=app.Task)
def calls_may_fail(self, name):
    """Calls another task as a function: what that raises is its own failure."""
    return may_fail.run(name)
