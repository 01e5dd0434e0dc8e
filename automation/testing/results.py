"""What became of the items of one stage that was tried: outputs, failures, questions."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

import orjson

from automation.pipeline import Payload

Item = tuple[str, bytes]
"""Key and JSON object."""


@dataclass(frozen=True)
class Failure:
    """An item, or group, that failed for good; of a hook ``key`` is its name, and ``item`` is ``None``."""

    key: str
    item: Any
    error: BaseException
    attempts: int = 1

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"

    @property
    def traceback(self) -> str:
        """As Python prints it."""
        return "".join(traceback.format_exception(self.error))


@dataclass
class Question:
    """What an item, or group, or hook has asked (``NeedsInput``)."""

    key: str
    item: Any
    text: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    """``None``: nobody answered, and the stage stopped there."""


@dataclass
class StageResult:
    """What became of the items of one stage."""

    slug: str
    title: str = ""
    items: int = 0
    """How many it was given."""
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    is_interrupted: bool = False
    """Whether it was stopped: at a checkpoint (``stop_at_checkpoint``), by a question or by a freeze."""
    questions: list[Question] = field(default_factory=list)
    frozen: str = ""
    """Why it froze its lane (``FreezeLane``); empty if it did not."""
    is_done_here: bool = True
    """False of a stage that agents do: it was not tried."""
    made: list[Item] = field(default_factory=list)
    """Key and JSON of each output."""
    done: set[str] = field(default_factory=set)
    """Keys of the items, or groups, that were done or have failed."""
    parts: dict[str, tuple[bytes, list[Item]]] = field(default_factory=dict)
    """Of items that are not done: the state that was committed last, as JSON, and the outputs before it."""

    @property
    def outputs(self) -> list[Payload]:
        """In order, as the next stage gets them."""
        return [orjson.loads(encoded) for _, encoded in self.made]

    @property
    def states(self) -> dict[str, Any]:
        """Of items that are not done, by key: what they would find in ``ctx.state``."""
        return {key: orjson.loads(state) for key, (state, _) in self.parts.items()}
