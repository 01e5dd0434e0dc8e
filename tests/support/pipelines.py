"""Pipelines for the tests: each shows one thing a stage can do. Importing the module registers them."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from automation.pipeline import AGENT, GroupStage, Needs, Param, Payload, Pipeline, Stage, TryLater, register
from automation.pipeline.context import StageContext
from tests.support import provider_pipelines as provider_pipelines

Script = Callable[[Payload, StageContext], None]
_script: Script | None = None


@contextmanager
def scripted(script: Script) -> Iterator[None]:
    """Call ``script(item, ctx)`` while a :class:`Scripted` stage is at work on an item: that is how a test meddles."""
    global _script
    _script = script
    try:
        yield
    finally:
        _script = None


def first_digits(item: Payload) -> int:
    return int(item["n"])


class Echo(Stage):
    slug = "echo"
    title = "Echo"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield {"n": item["n"], "square": item["n"] ** 2}


@register
class Numbers(Pipeline):
    slug = "numbers"
    title = "Numbers"
    stages = (Echo,)


class Scripted(Stage):
    """Does what the test told it to with :func:`scripted`, then echoes; commits each item by itself."""

    slug = "scripted"
    title = "Scripted"
    checkpoint_interval = 0
    slice_size = 5

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if _script is not None:
            _script(item, ctx)
        yield {"n": item["n"]}


@register
class ScriptedPipeline(Pipeline):
    slug = "scripted"
    title = "Scripted"
    stages = (Scripted,)


class Buffered(Scripted):
    """The same, but no item is committed before the slice ends or the loop stops."""

    slug = "buffered"
    checkpoint_interval = 3_600


@register
class BufferedPipeline(Pipeline):
    slug = "buffered"
    title = "Buffered"
    stages = (Buffered,)


class AsyncScripted(Scripted):
    """The same, three items at once."""

    slug = "async-scripted"
    in_flight = 3

    async def process(self, item: Payload, ctx: Any) -> Iterable[Payload]:  # type: ignore[override]
        if _script is not None:
            _script(item, ctx)
        return [{"n": item["n"]}]


@register
class AsyncScriptedPipeline(Pipeline):
    slug = "async-scripted"
    title = "Async scripted"
    stages = (AsyncScripted,)


class Fan(Stage):
    """``n`` modulo 4 outputs an item: none for some."""

    slug = "fan"
    title = "Fan"
    slice_size = 3

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for part in range(item["n"] % 4):
            yield {"n": item["n"] * 10 + part}


class Nothing(Stage):
    slug = "nothing"
    title = "Nothing"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        return ()


@register
class FanOut(Pipeline):
    slug = "fan-out"
    title = "Fan out"
    stages = (Fan, Echo)


@register
class Empty(Pipeline):
    """The second stage has no items at all."""

    slug = "empty"
    title = "Empty"
    stages = (Nothing, Echo)


class Sum(GroupStage):
    slug = "sum"
    title = "Sum"
    group_size = 4

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        yield {"n": sum(item["n"] for item in items), "of": [item["n"] for item in items]}


@register
class Grouped(Pipeline):
    slug = "grouped"
    title = "Grouped"
    stages = (Fan, Sum, Echo)


def _branch(name: str, after: tuple[str, ...] | None = None) -> type[Stage]:
    def process(self: Stage, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield {"n": item["n"], "path": [*item.get("path", ()), name]}

    return type(
        name.title(),
        (Stage,),
        {"slug": name, "title": name.title(), "after": after, "process": process, "slice_size": 2},
    )


@register
class Diamond(Pipeline):
    """Two branches over the input, joined again."""

    slug = "diamond"
    title = "Diamond"
    stages = (_branch("left", ()), _branch("right", ()), _branch("join", ("left", "right")))


@register
class Ladder(Pipeline):
    """``left`` feeds a stage of its own and, with ``right``, a join."""

    slug = "ladder"
    title = "Ladder"
    stages = (
        _branch("left", ()),
        _branch("right", ()),
        _branch("alone", ("left",)),
        _branch("join", ("left", "right")),
    )


class Hooked(Stage):
    """``prepare`` leaves the sum of all items, which each item uses; ``finish`` leaves the sum of all outputs."""

    slug = "hooked"
    title = "Hooked"
    slice_size = 2

    def prepare(self, ctx: StageContext) -> None:
        ctx.artifacts.save("sum.txt", str(sum(item["n"] for item in ctx.items())).encode())

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield {"n": item["n"], "of": int(ctx.artifacts.read("sum.txt"))}

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        ctx.artifacts.save("outputs.txt", ",".join(str(output["n"]) for output in outputs).encode())


@register
class HookedPipeline(Pipeline):
    slug = "hooked"
    title = "Hooked"
    stages = (Hooked,)


class BrokenHook(Echo):
    slug = "broken-hook"
    title = "Broken hook"

    def prepare(self, ctx: StageContext) -> None:
        raise ConnectionError("no model on this host")


@register
class BrokenHookPipeline(Pipeline):
    slug = "broken-hook"
    title = "Broken hook"
    stages = (BrokenHook,)


class Failing(Stage):
    """Every third item fails, however often it is tried."""

    slug = "failing"
    title = "Failing"
    retries = 2
    retry_backoff = 0

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if item["n"] % 3 == 0:
            raise ValueError(f"cannot digest {item['n']}")
        yield {"n": item["n"]}


class Strict(Failing):
    slug = "strict"
    max_failures = 2
    checkpoint_interval = 0


@register
class FailingPipeline(Pipeline):
    slug = "failing"
    title = "Failing"
    stages = (Failing,)


@register
class StrictPipeline(Pipeline):
    slug = "strict"
    title = "Strict"
    stages = (Strict,)


class Flaky(Stage):
    """Fails the first ``fails`` tries at each item, with a back-off of ``retry_backoff`` seconds."""

    slug = "flaky"
    title = "Flaky"
    retries = 3
    retry_backoff = 0.01
    tries: dict[str, int] = {}

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        self.tries[ctx.idempotency_key] = self.tries.get(ctx.idempotency_key, 0) + 1
        if self.tries[ctx.idempotency_key] <= item.get("fails", 0):
            raise TimeoutError("the provider did not answer")
        yield {"n": item["n"]}


@register
class FlakyPipeline(Pipeline):
    slug = "flaky"
    title = "Flaky"
    stages = (Flaky,)


class Patient(Stage):
    """Asks for ``later`` seconds of patience at the first try of each item."""

    slug = "patient"
    title = "Patient"
    asked: set[str] = set()

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if item.get("later") and ctx.idempotency_key not in self.asked:
            self.asked.add(ctx.idempotency_key)
            raise TryLater(item["later"])
        yield {"n": item["n"]}


@register
class PatientPipeline(Pipeline):
    slug = "patient"
    title = "Patient"
    stages = (Patient,)


class Slow(Stage):
    slug = "slow"
    title = "Slow"
    checkpoint_interval = 0

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ctx.sleep(ctx.params["seconds"])
        yield {"n": item["n"]}


class Surgery(Slow):
    slug = "surgery"
    title = "Surgery"
    irreversible = True


@register
class SlowPipeline(Pipeline):
    slug = "slow"
    title = "Slow"
    stages = (Slow,)
    params = (Param("seconds", float, 0.0),)


@register
class SurgeryPipeline(Pipeline):
    slug = "surgery"
    title = "Surgery"
    stages = (Surgery,)
    params = (Param("seconds", float, 0.0),)


class Odd(Stage):
    """Yields whatever the test put into ``Odd.output``."""

    slug = "odd"
    title = "Odd"
    output: Any = None

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        return [self.output]


@register
class OddPipeline(Pipeline):
    slug = "odd"
    title = "Odd"
    stages = (Odd,)


class Few(Echo):
    """Two loops of a run at most, one item a slice."""

    slug = "few"
    title = "Few"
    concurrency = 2
    slice_size = 1


@register
class FewPipeline(Pipeline):
    slug = "few"
    title = "Few"
    stages = (Few,)


@register
class Chain(Pipeline):
    """Fan-out, groups and a plain stage, in small slices: the machine's playground."""

    slug = "chain"
    title = "Chain"
    stages = (Fan, Sum, Few)


class Write(Stage):
    """Yields each item as it is."""

    slug = "write"
    title = "Write"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield item


@register
class Written(Pipeline):
    slug = "written"
    title = "Written"
    stages = (Write,)


class Remote(Stage):
    """Done by agents; ten items a slice."""

    slug = "remote"
    title = "Remote"
    executor = AGENT
    slice_size = 10
    retries = 1
    max_failures = 3


@register
class RemotePipeline(Pipeline):
    """A stage for agents, and one for workers after it."""

    slug = "remote"
    title = "Remote"
    stages = (Remote, Echo)


class Graphics(Stage):
    """For agents with a GPU; one at a time."""

    slug = "graphics"
    title = "Graphics"
    executor = AGENT
    concurrency = 1
    slice_size = 2
    needs = Needs(cpu=1, gpu_memory_mib=8_000)


@register
class GraphicsPipeline(Pipeline):
    slug = "graphics"
    title = "Graphics"
    stages = (Graphics,)


def wait_until(fact: Callable[[], Any], seconds: float = 5.0) -> None:
    """Return once ``fact()`` is true; ``TimeoutError`` if it is not within ``seconds``."""
    until = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > until:
            raise TimeoutError(f"it did not come true within {seconds:g} s")
        time.sleep(0.005)


class Stamped(Stage):
    """Items of 30 ms that tell when they were started."""

    slug = "stamped"
    title = "Stamped"
    slice_size = 20
    checkpoint_interval = 0

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        started = time.time()
        time.sleep(0.03)
        yield {"n": item["n"], "at": started}


@register
class StampedPipeline(Pipeline):
    slug = "stamped"
    title = "Stamped"
    stages = (Stamped,)


class Gripping(Stage):
    """Keeps the interpreter for ``seconds``, as a long call into C does: no other thread of the process runs."""

    slug = "gripping"
    title = "Gripping"
    tries: ClassVar[Counter[int]] = Counter()

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        self.tries[item["n"]] += 1
        ctypes.PyDLL(None).usleep(int(item["seconds"] * 1_000_000))
        yield {"n": item["n"], "attempt": self.tries[item["n"]]}


@register
class GrippingPipeline(Pipeline):
    slug = "gripping"
    title = "Gripping"
    stages = (Gripping,)


class Hanging(Stage):
    """Hangs at an item that says how, in each of the ways that nothing within the process can end."""

    slug = "hanging"
    title = "Hanging"
    checkpoint_interval = 0.05
    item_timeout = 2.5

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        how = item.get("how")
        if how == "loop":
            while True:
                pass
        if how == "grip":
            re.match(r"(a+)+$", "a" * 60 + "b")
        if how == "sleep":
            time.sleep(3600)
        if how == "politely":
            ctx.sleep(3600)
        time.sleep(item.get("seconds", 0.01))
        yield {"n": item["n"]}


@register
class HangingPipeline(Pipeline):
    slug = "hanging"
    title = "Hanging"
    stages = (Hanging,)


class HangingTwice(Hanging):
    slug = "hanging-twice"
    retries = 1
    retry_backoff = 0.0


@register
class HangingTwicePipeline(Pipeline):
    slug = "hanging-twice"
    title = "Hanging twice"
    stages = (HangingTwice,)


class HangingLong(Hanging):
    slug = "hanging-long"
    item_timeout = 3600.0


@register
class HangingLongPipeline(Pipeline):
    slug = "hanging-long"
    title = "Hanging long"
    stages = (HangingLong,)


class HangingHook(Echo):
    slug = "hanging-hook"
    title = "Hanging hook"
    hook_timeout = 1.0

    def prepare(self, ctx: StageContext) -> None:
        time.sleep(3600)


class HangingSetUp(Echo):
    slug = "hanging-setup"
    title = "Hanging setup"
    retries = 1
    hook_timeout = 1.0

    def setup(self, ctx: StageContext) -> None:
        time.sleep(3600)


class HangingInit(HangingHook):
    """Hangs as it is made, before its hook can."""

    slug = "hanging-init"
    title = "Hanging init"
    retries = 1

    def __init__(self) -> None:
        time.sleep(3600)


@register
class HangingSetUpPipeline(Pipeline):
    slug = "hanging-setup"
    title = "Hanging setup"
    stages = (HangingSetUp,)


@register
class HangingInitPipeline(Pipeline):
    slug = "hanging-init"
    title = "Hanging init"
    stages = (HangingInit,)


@register
class HangingHookPipeline(Pipeline):
    slug = "hanging-hook"
    title = "Hanging hook"
    stages = (HangingHook,)


class OnCards(Stage):
    """Tells its GPUs, and what CUDA sees, which it starts as it is made."""

    slug = "on-cards"
    title = "On cards"
    slice_size = 1
    needs = Needs(cpu=0.001, gpus=1)
    isolate_gpus = True

    def __init__(self) -> None:
        from tests.support.nvml.driver import start_cuda

        self.seen = start_cuda()

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        time.sleep(0.3)
        gpus = [[gpu.uuid, gpu.index, gpu.name, gpu.memory_mib] for gpu in ctx.gpus]
        yield {"gpus": gpus, "seen": self.seen, "pid": os.getpid()}


@register
class OnCardsPipeline(Pipeline):
    slug = "on-cards"
    title = "On cards"
    stages = (OnCards,)
