"""A pipeline of which a machine can carry one loop at a time: load it with ``--include`` in workers."""

from __future__ import annotations

import os
from collections.abc import Iterable

from automation.pipeline import Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from pause_manager.capacity.needs import Needs


class Heavy(Stage):
    slug = "heavy"
    title = "Needs most of the memory"
    slice_size = 1
    checkpoint_interval = 0
    needs = Needs(cpu=0, memory_mib=int(os.environ.get("HEAVY_MIB", "1")))

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ctx.sleep(1.5)
        yield {"n": item["n"]}


@register
class HeavyPipeline(Pipeline):
    slug = "heavy"
    title = "Heavy"
    stages = (Heavy,)
