"""``drill``: a pipeline to try pausing with and to test by. Items sleep, burn CPU, take memory and fail to order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from automation.pipeline import Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext

PAGE_BYTES = 4096
MIB = 1024 * 1024
BURN_SLICE_SECONDS = 0.02
BREATH_SECONDS = 0.0001
"""Sleeping at all is what lets a stop through; no sleep would not."""


class DrillFailure(Exception):
    """An item that ``fail_every`` told to fail."""


class Work(Stage):
    """Take ``memory_mib``, pass ``seconds`` asleep or busy, then yield ``n`` and its square."""

    slug = "work"
    title = "Work"

    @classmethod
    def label(cls, payload: Payload) -> str:
        return str(payload.get("n", ""))

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        n: int = item["n"]
        fail_every: int = ctx.params["fail_every"]
        taken = take_memory(ctx.params["memory_mib"])
        sleep = time.sleep if ctx.params["stubborn"] else ctx.sleep
        if ctx.params["mode"] == "burn":
            burn(ctx.params["seconds"], sleep)
        elif ctx.params["seconds"]:
            sleep(ctx.params["seconds"])
        del taken
        if fail_every and n % fail_every == 0:
            raise DrillFailure(f"Cannot finish item {n}: fail_every={fail_every} tells every such item to fail.")
        yield {"n": n, "square": n * n}


def take_memory(mib: int) -> bytearray | None:
    """``mib`` MiB with every page touched, so that it is resident and not merely promised."""
    if not mib:
        return None
    taken = bytearray(mib * MIB)
    taken[::PAGE_BYTES] = b"\x01" * len(range(0, len(taken), PAGE_BYTES))
    return taken


def burn(seconds: float, sleep: Callable[[float], None]) -> None:
    """Keep one core busy for ``seconds``; what interrupts ``sleep`` interrupts it."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        until = time.perf_counter() + min(left, BURN_SLICE_SECONDS)
        while time.perf_counter() < until:
            sum(range(200))
        sleep(BREATH_SECONDS)


@register
class Drill(Pipeline):
    """``items`` numbered from 1, each one unit of the work that the parameters describe."""

    slug = "drill"
    title = "Drill"
    stages = (Work,)
    params = (
        Param("items", int, 100, "Number of items.", minimum=1, maximum=10_000_000),
        Param("seconds", float, 0.1, "Seconds each item takes.", minimum=0, maximum=86_400),
        Param("mode", str, "sleep", "What an item does meanwhile.", choices=("sleep", "burn")),
        Param("stubborn", bool, False, "Whether a pause waits for the item in progress, as most work makes it."),
        Param("memory_mib", int, 0, "MiB each item holds meanwhile.", minimum=0, maximum=1_048_576),
        Param("fail_every", int, 0, "Every item whose number divides by this fails; 0 is none.", minimum=0),
    )
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterable[Payload]:
        return ({"n": n} for n in range(1, params["items"] + 1))
