"""What a stage may ask for while it works on an item."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from automation.files.artifacts import Artifacts as Artifacts
from pause_manager.capacity.snapshot import Gpu


class Interrupted(BaseException):
    """Raised by ``sleep`` and ``checkpoint`` of :class:`StageContext` at a stop: the item is done again on resume.

    Not an ``Exception``, so that a stage's own ``except Exception`` does not swallow it.
    """


class TookTooLong(BaseException):
    """Raised by :meth:`StageContext.sleep` once the item has taken longer than it may: this attempt has failed.

    Not an ``Exception``, as :class:`Interrupted`. A stage that continues anyway is ended with the process.
    """

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"took longer than {what} = {seconds:g} s")


def _refuse_checkpoint(state: Any) -> None:
    raise RuntimeError("Cannot commit a checkpoint: no item is in progress.")


class StageContext:
    """Handed to every hook of a stage. One instance serves a whole loop; ``item_key`` changes from item to item."""

    __slots__ = (
        "_answers",
        "_checkpoint",
        "_items",
        "_should_stop",
        "_sleep",
        "_state",
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
        should_stop: Callable[[], bool] = lambda: False,
        checkpoint: Callable[[Any], None] = _refuse_checkpoint,
        state: Callable[[], Any] = lambda: None,
        answers: Callable[[str], Mapping[str, str]] = lambda key: {},
    ) -> None:
        self.run_id = run_id
        self.stage_slug = stage_slug
        self.params = params
        self.logger = logger
        self.artifacts = artifacts
        self.gpus = gpus
        """The GPUs that this loop may use (``uuid``, ``index``, ``name``, ``memory_mib``); the same until it ends."""
        self.item_key = ""
        """Key of the item in progress: the same in every attempt, unique within the stage; sorts in input order."""
        self.back_off = back_off or sleep
        """The wait between two tries at an item: interrupted by a stop even where :meth:`sleep` is not."""
        self._sleep = sleep
        self._items = items
        self._should_stop = should_stop
        self._checkpoint = checkpoint
        self._state = state
        self._answers = answers

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this item (run, stage, item): hand it to external services."""
        return f"{self.run_id}:{self.stage_slug}:{self.item_key}"

    def sleep(self, seconds: float) -> None:
        """Wait, but not through a stop: a pause or cancel raises :class:`Interrupted` within 50 ms.

        Beyond the item's time limit it raises :class:`TookTooLong`.
        """
        self._sleep(seconds)

    def should_stop(self) -> bool:
        """Whether the item is to stop soon, for a pause, a cancel or a deploy. From memory: ask as often as you like.

        :meth:`checkpoint` then raises :class:`Interrupted`. Always False in an ``irreversible`` stage.
        """
        return self._should_stop()

    def checkpoint(self, state: Any) -> None:
        """Commit how far this item is; ``state`` is a JSON value other than ``None``.

        What was yielded before is committed with it, and the item's time limit starts again. Raises
        :class:`Interrupted` if the item is to stop: it continues from here, perhaps on another worker.
        """
        self._checkpoint(state)

    @property
    def state(self) -> Any:
        """What :meth:`checkpoint` committed last for this item, before it was interrupted or failed; else ``None``.

        A stage that reads it continues there: outputs before that checkpoint are kept. A stage that does not read it
        starts over, and nothing of it is kept.
        """
        return self._state()

    @property
    def answer(self) -> str | None:
        """The last answer to a question that this item, or hook, has asked (:class:`NeedsInput`); else ``None``."""
        return next(reversed(self.answers.values()), None)

    @property
    def answers(self) -> dict[str, str]:
        """The answers to all questions that it has asked, by question, the last one last."""
        return dict(self._answers(self.item_key))

    def items(self) -> Iterator[dict[str, Any]]:
        """Payloads of all items of the stage, in order; for ``prepare``."""
        return self._items()


class AsyncStageContext(StageContext):
    """Handed to an ``async def process``: one for each item. :meth:`sleep` and :meth:`checkpoint` are awaited."""

    __slots__ = ()

    @classmethod
    def like(cls, ctx: StageContext) -> AsyncStageContext:
        """One for another item of the loop of ``ctx``."""
        return cls(
            run_id=ctx.run_id,
            stage_slug=ctx.stage_slug,
            params=ctx.params,
            logger=ctx.logger,
            artifacts=ctx.artifacts,
            sleep=ctx._sleep,
            items=ctx._items,
            back_off=ctx.back_off,
            gpus=ctx.gpus,
            should_stop=ctx._should_stop,
            answers=ctx._answers,
        )

    def bind(
        self,
        *,
        sleep: Callable[[float], Any],
        checkpoint: Callable[[Any], Any],
        state: Callable[[], Any],
    ) -> None:
        """What is asked of it is asked of these; ``sleep`` and ``checkpoint`` are awaited."""
        self._sleep, self._checkpoint, self._state = sleep, checkpoint, state

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        """Wait while other items work, but not through a stop: a pause or cancel raises :class:`Interrupted`."""
        wait: Callable[[float], Any] = self._sleep
        await wait(seconds)

    async def checkpoint(self, state: Any) -> None:  # type: ignore[override]
        """As :meth:`StageContext.checkpoint`, while other items work."""
        commit: Callable[[Any], Any] = self._checkpoint
        await commit(state)
