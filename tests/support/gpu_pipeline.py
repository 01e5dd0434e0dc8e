"""A pipeline of which a loop takes a GPU whole: load it with ``--include`` in workers."""

from __future__ import annotations

from collections.abc import Iterable

from automation.pipeline import Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from pause_manager.capacity.needs import Needs
from pause_manager.probes.processes import host_name


class WholeCard(Stage):
    slug = "whole-card"
    title = "Needs most of a card's memory"
    slice_size = 1
    checkpoint_interval = 0
    needs = Needs(cpu=0, gpu_memory_mib=30_000, gpus=1)

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ctx.sleep(1.5)
        yield {"n": item["n"], "host": host_name(), "gpus": [gpu.uuid for gpu in ctx.gpus]}


@register
class CardingPipeline(Pipeline):
    slug = "carding"
    title = "Carding"
    stages = (WholeCard,)
