"""One step of a pipeline, as its author declares it: ``Stage`` takes items one by one, ``GroupStage`` in groups.

A stage sees items and a :class:`~automation.pipeline.context.StageContext`; never statuses, locks or Celery.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from automation.errors import FreezeLane as FreezeLane
from automation.errors import NeedsInput as NeedsInput
from automation.errors import TryLater as TryLater
from automation.pipeline.context import StageContext
from automation.pipeline.failure_limit import FAIL, HALF, FailureLimit
from automation.pipeline.params import CELERY
from pause_manager.capacity.needs import Needs

Payload = dict[str, Any]
"""One item: a JSON object."""
Outputs = Iterable[Any] | Awaitable[Iterable[Any]] | AsyncIterable[Any]
"""What ``process`` returns or yields: dicts, dataclasses or pydantic models."""


class BaseStage:
    """What :class:`Stage` and :class:`GroupStage` share: the declaration and the optional hooks."""

    slug: ClassVar[str]
    title: ClassVar[str]
    formerly: ClassVar[tuple[str, ...]] = ()
    """Slugs that it had in earlier releases: their runs continue with it."""
    executor: ClassVar[str] = CELERY
    """The executor: ``celery`` workers, or ``agent``: remote agents that lease slices over HTTP."""
    item_type: ClassVar[type[Any] | None] = None
    """The type of an item: a ``TypedDict``, a dataclass or a pydantic model. ``process`` gets the dict, or the object.

    Items are checked where they are made: an output that the stages after it cannot take fails the item that made it,
    and an input that the first stages cannot take is refused. ``None`` checks nothing.
    """
    needs: ClassVar[Needs] = Needs()
    uses: ClassVar[tuple[str, ...]] = ()
    """The resources outside that its items use, by name: ``("openai",)``. Each can be held and limited for all who use
    it, and is let alone by all when it says "too much" (:class:`TryLater`)."""
    concurrency: ClassVar[int | None] = None
    """Loops of one run at most in this stage; ``None`` is as many as there are slices."""
    in_flight: ClassVar[int] = 1
    """Items (or groups) that one loop works on at once, where ``process`` is async."""
    retries: ClassVar[int] = 0
    """How often an item that raised is tried again before it is recorded as failed."""
    retry_backoff: ClassVar[float] = 1.0
    """Seconds before the first retry; doubles with each further one, 60 s at most."""
    retry_jitter: ClassVar[float] = 0.1
    """By how much of itself each of these waits is longer or shorter, at random, so that not all come back at once."""
    retry_for: ClassVar[tuple[type[BaseException], ...]] = (BaseException,)
    """What is worth another try; whatever else an item raises fails it at once."""
    no_retry_for: ClassVar[tuple[type[BaseException], ...]] = ()
    """What is not, of those."""
    max_waits: ClassVar[int] = 1_000
    """How often an item may ask for patience (:class:`TryLater`) before it has failed."""
    max_wait_seconds: ClassVar[float] = 86_400.0
    """For how long in all; what is paused meanwhile does not count."""
    loop_retries: ClassVar[int] = 9
    """How often a loop that fails before any item is to blame (the stage cannot be made, say) is tried again.

    Then the run fails. The tries are 1, 2, 4, … 60 s apart.
    """
    max_item_bytes: ClassVar[int | None] = None
    """Largest output, as JSON; ``None`` is ``AUTOMATION["max_item_bytes"]`` (8 MiB)."""
    checkpoint_interval: ClassVar[float | None] = None
    """Seconds between checkpoints; 0 commits each item by itself (for external side effects).

    ``None`` goes by the items: 0.1, and 0.25 where they take less than 5 ms.
    """
    item_timeout: ClassVar[float | None] = None
    """Seconds that one attempt at an item may take: after that it has failed, and is tried again if ``retries`` allow.

    Enforced from outside the process, which is killed if it does not end. ``None`` is what the pipeline says, else the
    setting ``item_timeout_seconds``; 0 is no limit.
    """
    hook_timeout: ClassVar[float | None] = None
    """The same for the making of the stage, ``prepare`` and ``finish``; ``None``: ``hook_timeout_seconds``."""
    timeout: ClassVar[float | None] = None
    """Seconds of working time from the stage's start after which the run fails; ``None`` is no limit.

    What holds stop does not count, nor does time in which nothing of the run can be worked on.
    """
    max_failures: ClassVar[FailureLimit] = HALF
    """More failed items than this fail the run; ``None`` is no limit.

    A share (0.5: more than the half) is judged once 20 items are done, and sooner if the first 10 all failed.
    """
    on_exhausted: ClassVar[str] = FAIL
    """What follows when the tries of an item or hook, or ``max_failures``, are used up.

    ``fail``: the item has failed, or the run. ``hold``: the run is held, and a person answers ``retry``, ``skip`` or
    ``fail``.
    """
    irreversible: ClassVar[bool] = False
    """A cancel waits for the current item and says so."""
    slice_size: ClassVar[int | None] = None
    """Items a slice, which is what one lease hands out: a batch. ``None`` goes by the observed rate, for about 30 s of
    work."""
    batch_delay: ClassVar[float] = 0.0
    """Seconds from the end of one batch of a run to the beginning of the next; one is then in progress at a time."""
    stage_delay: ClassVar[float] = 0.0
    """Seconds from the end of the stages before it to its beginning. No worker is held by either."""
    max_items: ClassVar[int | None] = None
    """Items that a run does in this stage at most, the first ones; what is left out is told. ``None`` is no limit."""
    queue: ClassVar[str] = "stages"
    """Celery queue the stage's loops are sent to."""
    after: ClassVar[tuple[str, ...] | None] = None
    """Slugs of the stages whose outputs are this stage's items; ``None`` is the stage before it."""
    group_size: ClassVar[int] = 1
    isolate_gpus: ClassVar[bool] = False
    """Before the stage is made, ``CUDA_VISIBLE_DEVICES`` of its process names the loop's GPUs (``ctx.gpus``) alone."""

    @classmethod
    def uses_with(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which of :attr:`uses` a run with ``params`` uses; by default all. Asked when the run is created."""
        return cls.uses

    @classmethod
    def label(cls, payload: Payload) -> str:
        """Return what people call an item of this stage, or one of its outputs; empty for its key.

        By default the ``title`` or ``name`` of the item, else its only value.
        """
        values = [payload.get("title"), payload.get("name"), *(payload.values() if len(payload) == 1 else ())]
        return next((str(value) for value in values if _is_label(value)), "")

    def prepare(self, ctx: StageContext) -> None:
        """Run once per run, under its own lease, before the stage's first item. ``ctx.items()`` returns all items.

        Setting an attribute here raises, as loops in other processes would not have it: leave results in
        ``ctx.artifacts``, and load what is dear in :meth:`setup`.
        """

    def setup(self, ctx: StageContext) -> Awaitable[None] | None:
        """Run in every loop before its first item: load a model, open a session. ``prepare`` and ``finish`` go without.

        It and :meth:`teardown` may be ``async def`` where ``process`` is, and run on the event loop of the items.
        What it sets on ``self`` is there until :meth:`teardown`.
        """

    def teardown(self, ctx: StageContext) -> Awaitable[None] | None:
        """Run at the end of every loop whose :meth:`setup` succeeded, unless its process is killed."""

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        """Run once, under its own lease, after the stage's last item, with all outputs in order."""


class Stage(BaseStage):
    """One step that turns one item into any number of outputs.

    An instance lives as long as one stage loop, so ``self`` may cache what is dear to load. What the class declares
    has the values that it had when the run was created: ``self.retries``, ``self.group_size``, …
    """

    def process(self, item: Any, ctx: StageContext) -> Outputs:
        """Return or yield the outputs of ``item``, a dict or what :attr:`item_type` says.

        Must be deterministic for the run's outputs to be so. It may be ``async def``, and then has an
        :class:`~automation.pipeline.context.AsyncStageContext`: ``in_flight`` items are in progress at once.
        """
        raise TypeError(f"{type(self).__name__} does not define process(item, ctx)")


class GroupStage(BaseStage):
    """One step that turns ``group_size`` consecutive items (fewer in the last group) into outputs, as one unit."""

    group_size: ClassVar[int] = 10

    def process(self, items: Sequence[Any], ctx: StageContext) -> Outputs:
        """Return or yield the outputs of the group. The unit's key is that of its first item."""
        raise TypeError(f"{type(self).__name__} does not define process(items, ctx)")


AnyStage = Stage | GroupStage


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())


def is_async(method: Any) -> bool:
    """Whether ``method`` is a coroutine function, or an asynchronous generator."""
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
