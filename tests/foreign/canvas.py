"""Celery's canvas, once through: each scenario sends something, and tells its outcome when asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from celery import chain, chord, group
from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import AsyncResult

from tests.foreign.tasks import (
    add,
    fail,
    flaky,
    gives_up,
    hooked,
    limited,
    on_error,
    replaced,
    silent,
    size,
    spawns,
    total,
    who,
)

PATIENCE = 60
SCENARIOS: dict[str, Callable[[], Any]] = {}


def scenario(start: Callable[[], Any]) -> Callable[[], Any]:
    SCENARIOS[start.__name__] = start
    return start


@scenario
def chained():
    return chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()


@scenario
def grouped():
    return group(add.s(n, n) for n in range(5)).apply_async()


@scenario
def chorded():
    return chord((add.s(n, 1) for n in range(5)), total.s()).apply_async()


@scenario
def chord_in_chain():
    return chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s(), add.s(5)).apply_async()


@scenario
def failing_chord():
    return chord((add.s(7, 7), fail.s("part")), total.s().on_error(on_error.s())).apply_async()


@scenario
def mapped():
    return total.map([[1, 2], [3]]).apply_async()


@scenario
def star_mapped():
    return add.starmap([(1, 2), (3, 4)]).apply_async()


@scenario
def chunked():
    return add.chunks([(n, n) for n in range(6)], 2).apply_async()


@scenario
def retried():
    return flaky.delay(2)


@scenario
def given_up():
    return gives_up.delay()


@scenario
def rate_limited():
    return group(limited.s(n) for n in range(5)).apply_async()


@scenario
def later():
    return who.apply_async(("later",), countdown=1)


@scenario
def revoked():
    result = add.apply_async((6, 6), countdown=3)
    result.revoke()
    return result


@scenario
def linked():
    return add.apply_async((2, 2), link=[add.s(20), silent.si(2)])


@scenario
def link_error():
    return fail.apply_async(("linked",), link_error=on_error.s())


@scenario
def ignored():
    silent.delay(1)
    return add.apply_async((9, 9), ignore_result=True)


@scenario
def known():
    return who.apply_async(
        ("known",),
        priority=6,
        headers={"tenant": "blue"},
        time_limit=50,
        soft_time_limit=40,
        shadow="shadowed",
        expires=600,
        reply_to="somebody",  # type: ignore[call-arg]
    )


@scenario
def stamped():
    signature = group(who.s(n) for n in range(2))
    signature.stamp(colour="green")
    return signature.apply_async()


@scenario
def pickled():
    return size.apply_async(({1, 2, 3},), serializer="pickle", compression="zlib")


@scenario
def named():
    return add.apply_async((3, 3), task_id=f"name-{uuid4()}")


@scenario
def replaced_by_chain():
    return replaced.delay(1)


@scenario
def spawning():
    return spawns.delay()


@scenario
def inherited():
    return hooked.delay(1)


@scenario
def inherited_failure():
    return hooked.delay(-1)


def outcome(name: str, result: Any) -> Any:
    """State and value, with ids reduced to what they must be."""
    if name == "ignored":
        return "nothing"
    try:
        value = result.get(timeout=PATIENCE, propagate=False)
    except ResultTimeout:
        return "nothing came"
    if isinstance(value, Exception):
        value = type(value).__name__ if name == "failing_chord" else repr(value)
    state = result.state if isinstance(result, AsyncResult) else [part.state for part in result.results]
    return [state, _without_ids(value)]


def _without_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_ids(part) for part in value]
    if isinstance(value, dict) and "correlation" in value:
        is_root = value["root"] == value["id"]
        kept = {key: part for key, part in value.items() if key not in ("id", "root", "parent", "correlation")}
        return {**kept, "is_root": is_root, "has_parent": value["parent"] is not None}
    return value
