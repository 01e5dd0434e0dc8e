"""A process of the foreign project that sends its tasks and waits for them: one JSON order and answer a line."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.foreign.settings"

import django
from celery import chord

django.setup()

from tests.foreign import canvas, tasks
from tests.foreign.celery import app

app.loader.import_default_modules()
_started: dict[str, Any] = {}


def start(names: list[str] | None = None) -> list[str]:
    for name in names or list(canvas.SCENARIOS):
        _started[name] = canvas.SCENARIOS[name]()
    return list(_started)


def outcomes() -> dict[str, Any]:
    told = {name: canvas.outcome(name, result) for name, result in _started.items()}
    _started.clear()
    return told


def send(task: str, *args: Any, **options: Any) -> str:
    with _request_of(f"send {task}"):
        return str(getattr(tasks, task).apply_async(args, **options).id)


def _request_of(name: str) -> AbstractContextManager[Any]:
    """What Sentry sees, where a project has it, of a web request in which a task is sent."""
    if not os.environ.get("FOREIGN_TELEMETRY"):
        return nullcontext()
    import sentry_sdk

    return sentry_sdk.start_transaction(op="http.server", name=name)


def pieces(seconds: float) -> str:
    """Two tasks that work piece by piece, as the header of a chord; the id of its body."""
    return str(chord([tasks.slow.s("a", seconds), tasks.slow.s("b", seconds)], tasks.joined.s()).apply_async().id)


def chorded(seconds: float, numbers: list[int]) -> list[str]:
    """A chord of as many tasks, the last of which is due in ``seconds``; their ids, and then that of its body."""
    parts = [tasks.add.s(number, number) for number in numbers]
    parts[-1].set(countdown=seconds)
    body: Any = chord(parts, tasks.total.s()).apply_async()
    return [*(part.id for part in body.parent.results), body.id]


def linked(x: Any, y: Any, z: Any) -> list[str]:
    """A chain of two sums; the ids of its tasks."""
    last: Any = (tasks.add.s(x, y) | tasks.add.s(z)).apply_async()
    return [last.parent.id, last.id]


def pour(first: int, size: int) -> list[str]:
    """``size`` bundles of work, numbered from ``first``; the keys of all that will be done."""
    keys: list[str] = []
    for number in range(first, first + size):
        parts = [f"{number}-{part}" for part in range(3)]
        keys += [*parts, f"{number}-all", f"{number}-one", f"{number}-two"]
        chord([tasks.count.s(part) for part in parts], tasks.gathered.s(f"{number}-all")).apply_async()
        (tasks.count.si(f"{number}-one") | tasks.count.si(f"{number}-two")).apply_async()
        if number % 3 == 0:
            tasks.steps.delay(f"{number}-steps")
            keys += [f"{number}-steps/{piece}" for piece in range(10)]
    return keys


def revoke(task_id: str) -> None:
    app.control.revoke(task_id)


def control(verb: str, *args: Any) -> Any:
    with app.connection_for_write() as connection:
        return getattr(app.control, verb)(*args, connection=connection, reply=True, timeout=5, limit=1)


def inspect(verb: str) -> Any:
    with app.connection_for_write() as connection:
        return getattr(app.control.inspect(connection=connection, timeout=5, limit=1), verb)() or {}


def send_many(task: str, count: int, countdown: float = 0) -> None:
    for number in range(count):
        getattr(tasks, task).apply_async([number], countdown=countdown)


def restart_pools() -> None:
    app.control.pool_restart()


def state(task_id: str) -> list[Any]:
    result = app.AsyncResult(task_id)
    # The state first: once that is final, the value that is read after it is its own.
    state, value = result.state, result.result
    return [state, repr(value) if isinstance(value, Exception) else value]


VERBS = {
    verb.__name__: verb
    for verb in (
        start,
        outcomes,
        send,
        pieces,
        linked,
        chorded,
        pour,
        send_many,
        restart_pools,
        revoke,
        control,
        inspect,
        state,
    )
}


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"answer": VERBS[order["verb"]](*order.get("args", ()), **order.get("options", {}))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
