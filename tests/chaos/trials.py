"""The ``trials`` pipeline: items that do what stages really do, from returning to killing their process."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from automation.pipeline import Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext

RELEASE = "CHAOS_RELEASE"
"""In release ``b`` the second stage has another slug, so that runs of release ``a`` wait for it."""
LIMIT_SECONDS = 8.0


class PanicException(BaseException):
    """As compiled extensions raise it."""


GOOD = ("return", "keep the gil", "eat memory", "sleep")
BAD = {
    "exit": "SystemExit",
    "be cancelled": "CancelledError",
    "panic": "PanicException",
    "interrupt": "KeyboardInterrupt",
    "raise": "ValueError",
    "run out of memory": "MemoryError",
    "return nonsense": "got: int",
    "return no number": "expected an output of finite numbers",
    "hang": "item_timeout",
    "spin": "item_timeout",
    "die": "WorkerLost",
}
"""What an item does that fails, and what its error says."""
RARE = {"hang", "spin", "die"}


def deed_of(seed: int, n: int) -> str:
    """What item ``n`` of a run with this seed does; two of three are good."""
    dice = random.Random(f"{seed}/{n}")
    if dice.random() < 0.67:
        return dice.choice(GOOD)
    bad = dice.choice(list(BAD))
    return "raise" if bad in RARE and dice.random() < 0.6 else bad


def may_say(deed: str) -> tuple[str, ...]:
    """What the error of a bad item may say: one that takes long may have its process killed thrice before its limit."""
    return (BAD[deed], BAD["die"]) if deed in ("hang", "spin") else (BAD[deed],)


class Trial(Stage):
    """Does its item's deed."""

    slug = "trial"
    title = "Trial"
    slice_size = 6
    max_failures = None
    item_timeout = LIMIT_SECONDS

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        n, deed = item["n"], item["deed"]
        if deed == "return nonsense":
            return n  # type: ignore[no-any-return]
        act(deed)
        return [{"n": n, "value": float("nan") if deed == "return no number" else n}]


def act(deed: str) -> None:
    match deed:
        case "keep the gil":
            re.match(r"(a+)+$", "a" * 23 + "b")
        case "eat memory":
            taken = bytearray(150 << 20)
            taken[::4096] = b"\x01" * len(range(0, len(taken), 4096))
        case "sleep":
            time.sleep(0.2)
        case "exit":
            raise SystemExit(2)
        case "be cancelled":
            raise asyncio.CancelledError
        case "panic":
            raise PanicException("index out of bounds")
        case "interrupt":
            raise KeyboardInterrupt
        case "raise":
            raise ValueError("no good")
        case "run out of memory":
            raise MemoryError
        case "hang":
            time.sleep(600)
        case "spin":
            while True:
                pass
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)


class Keep(Stage):
    """Hands on what came."""

    slug = "keep"
    title = "Keep"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield {"n": item["n"]}


class KeepOtherwise(Keep):
    slug = "keep-otherwise"


@register
class Trials(Pipeline):
    """``items`` deeds, by ``seed``."""

    slug = "trials"
    title = "Trials"
    stages = (Trial, KeepOtherwise if os.environ.get(RELEASE) == "b" else Keep)
    params = (Param("items", int, 20, minimum=1), Param("seed", int, 0))
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterator[Payload]:
        return ({"n": n, "deed": deed_of(params["seed"], n)} for n in range(params["items"]))
