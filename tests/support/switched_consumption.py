"""Loaded into a worker with ``--include``: it consumes or not, as the file in ``CONSUME`` says."""

from __future__ import annotations

import os
from pathlib import Path

from pause_manager.bootsteps import consumption, on_sample
from pause_manager.capacity.snapshot import NodeView
from tests.support.busy_tasks import burn, note

__all__ = ["burn", "note"]


def obey(view: NodeView, speaks: bool) -> None:
    """With each sample: stop or start as told, and write down what is stopped."""
    order = Path(os.environ["CONSUME"])
    (consumption.stop if order.read_text() == "stop" else consumption.start)()
    answer = order.with_suffix(".stopped")
    answer.write_text(" ".join(sorted(consumption.stopped)))


on_sample.append(obey)
