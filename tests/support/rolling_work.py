"""Work that lasts, of which a machine can carry one loop at a time: load it with ``--include`` in workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from celery import shared_task

from automation.pipeline import Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from pause_manager.capacity.needs import Needs
from pause_manager.pausable import PausableTask

QUEUE = "rolling"
ENOUGH = Path(os.environ.get("ROLLING_ENOUGH", ""))
"""A file; as soon as it is there the work ends, in no time."""


class Lasting(Stage):
    slug = "lasting"
    title = "Needs most of the memory for a while"
    slice_size = 12
    checkpoint_interval = 0
    needs = Needs(cpu=0, memory_mib=int(os.environ.get("HEAVY_MIB", "1")))

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ctx.sleep(0 if ENOUGH.exists() else 0.5)
        yield {"n": item["n"]}


@register
class LastingPipeline(Pipeline):
    slug = "lasting"
    title = "Lasting"
    stages = (Lasting,)


@shared_task(base=PausableTask, bind=True, name="tests.rolling", needs={"cpu": 0, "memory_mib": 1})
def count(self: PausableTask, path: str, start: int = 0) -> None:
    """Write numbers down, five a second."""
    number = start
    while not ENOUGH.exists():
        should_stop, _ = self.check_should_stop()
        if should_stop:
            raise self.park(path, start=number)
        time.sleep(0.2)
        with open(path, "a") as file:
            file.write(f"{number}\n")
        number += 1
