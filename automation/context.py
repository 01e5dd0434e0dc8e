"""What a stage may ask for while it works on an item."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from automation.files.artifacts import Artifacts as Artifacts
from pause_manager.views import Gpu


class Interrupted(BaseException):
    """Raised by :meth:`StageContext.sleep` at a stop. The item is left undone and is done again on resume.

    Not an ``Exception``, so that a stage's own ``except Exception`` does not swallow it.
    """


class TookTooLong(BaseException):
    """Raised by :meth:`StageContext.sleep` once the item has taken longer than it may: this attempt has failed.

    Not an ``Exception``, as :class:`Interrupted`. Whoever goes on all the same is ended with the process.
    """

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"took longer than {what} = {seconds:g} s")


class StageContext:
    """Handed to every hook of a stage. One instance serves a whole loop; ``item_key`` changes from item to item."""

    __slots__ = (
        "_items",
        "_sleep",
        "artifacts",
        "back_off",
        "gpus",
        "item_key",
        "logger",
        "params",
        "run_id",
        "stage_slug",
    )

    def __init__(
        self,
        *,
        run_id: UUID,
        stage_slug: str,
        params: Mapping[str, Any],
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
        artifacts: Artifacts,
        sleep: Callable[[float], None],
        items: Callable[[], Iterator[dict[str, Any]]],
        back_off: Callable[[float], None] | None = None,
        gpus: tuple[Gpu, ...] = (),
    ) -> None:
        self.run_id = run_id
        self.stage_slug = stage_slug
        self.params = params
        self.logger = logger
        self.artifacts = artifacts
        self.gpus = gpus
        """The GPUs that this loop may use (``uuid``, ``index``, ``name``, ``memory_mib``); the same until it ends."""
        self.item_key = ""
        """Key of the item at work: the same in every attempt, unique within the stage; sorts in input order."""
        self.back_off = back_off or sleep
        """The wait between two tries at an item: interrupted by a stop even where :meth:`sleep` is not."""
        self._sleep = sleep
        self._items = items

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this item (run, stage, item): hand it to external services."""
        return f"{self.run_id}:{self.stage_slug}:{self.item_key}"

    def sleep(self, seconds: float) -> None:
        """Wait, but not through a stop: a pause or cancel raises :class:`Interrupted` within 50 ms.

        Beyond the item's time limit it raises :class:`TookTooLong`.
        """
        self._sleep(seconds)

    def items(self) -> Iterator[dict[str, Any]]:
        """Payloads of all items of the stage, in order; for ``prepare``."""
        return self._items()
