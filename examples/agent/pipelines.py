"""The pipeline that the example works for: name this package in ``SLACKWATER_APPS``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from automation.pipeline import AGENT, Param, Payload, Pipeline, Stage, register


class Shout(Stage):
    """What is done to an item is up to the agent."""

    slug = "shout"
    title = "Texts → SHOUTS"
    executor = AGENT
    slice_size = 50


@register
class Shouting(Pipeline):
    slug = "shouting"
    title = "Shouting"
    stages = (Shout,)
    needs_input = False
    params = (
        Param("texts", int, 200, "How many texts.", minimum=1, maximum=100_000),
        Param("seconds", float, 0.0, "Seconds each text takes: long enough to pause, kill and start.", minimum=0),
    )

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterable[Payload]:
        return ({"text": f"text number {number}"} for number in range(1, params["texts"] + 1))
