"""All that the author of a stage needs: ``Pipeline``, ``Stage``, ``GroupStage``, ``Needs``, ``Param``, ``register``.

A pipeline is declared in code, in a module ``pipelines`` of any installed app::

    from automation.pipeline import Needs, Pipeline, Stage, register

    class Shout(Stage):
        slug = "shout"
        title = "Shout"

        def process(self, item, ctx):
            yield {"text": item["text"].upper()}

    @register
    class Shouting(Pipeline):
        slug = "shouting"
        title = "Shouting"
        stages = (Shout,)

A stage sees items and a :class:`~automation.context.StageContext`; never statuses, locks or Celery.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from automation.errors import InvalidInput, InvalidParams, UnknownPipeline
from automation.errors import TryLater as TryLater
from automation.files.names import slug_name
from automation.inputs import Reader, Rows
from automation.pipeline.declaration import AGENT, CELERY, Param, check_pipeline
from automation.pipeline.failure_limit import HALF, FailureLimit
from pause_manager.capacity.needs import Needs

if TYPE_CHECKING:
    from automation.pipeline.context import StageContext

__all__ = [
    "AGENT",
    "CELERY",
    "GroupStage",
    "Needs",
    "Param",
    "Payload",
    "Pipeline",
    "Reader",
    "Rows",
    "Stage",
    "TryLater",
    "all_pipelines",
    "get_pipeline",
    "register",
    "slug_name",
]

Payload = dict[str, Any]
"""One item: a JSON object."""
Outputs = Iterable[Any] | Awaitable[Iterable[Any]] | AsyncIterable[Any]
"""What ``process`` returns or yields: dicts, dataclasses or pydantic models."""


class BaseStage:
    """What :class:`Stage` and :class:`GroupStage` share: the declaration and the optional hooks."""

    slug: ClassVar[str]
    title: ClassVar[str]
    formerly: ClassVar[tuple[str, ...]] = ()
    """Slugs that it had in earlier releases: runs of then go on with it."""
    executor: ClassVar[str] = CELERY
    """Who does the work: ``celery`` workers, or ``agent``: remote agents that lease slices over HTTP."""
    item_type: ClassVar[type[Any] | None] = None
    """What an item is: a ``TypedDict``, a dataclass or a pydantic model. ``process`` gets the dict, or the object.

    Items are checked where they are made: an output that the stages after it cannot take fails the item that made it,
    and an input that the first stages cannot take is refused. ``None`` checks nothing.
    """
    needs: ClassVar[Needs] = Needs()
    concurrency: ClassVar[int | None] = None
    """Loops of one run at most at work in this stage; ``None`` is as many as there are slices."""
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
    max_failures: ClassVar[FailureLimit] = HALF
    """More failed items than this fail the run; ``None`` is no limit.

    A share (0.5: more than the half) is judged once 20 items are done, and sooner if the first 10 all failed.
    """
    irreversible: ClassVar[bool] = False
    """A cancel waits for the current item and says so."""
    slice_size: ClassVar[int | None] = None
    """Items a slice; ``None`` sizes slices from the observed rate to about 30 s of work."""
    queue: ClassVar[str] = "stages"
    """Celery queue the stage's loops are sent to."""
    after: ClassVar[tuple[str, ...] | None] = None
    """Slugs of the stages whose outputs are this stage's items; ``None`` is the stage before it."""
    group_size: ClassVar[int] = 1
    isolate_gpus: ClassVar[bool] = False
    """Before the stage is made, ``CUDA_VISIBLE_DEVICES`` of its process names the loop's GPUs (``ctx.gpus``) alone."""

    def prepare(self, ctx: StageContext) -> None:
        """Run once a run, under its own lease, before the stage's first item. ``ctx.items()`` iterates over all items.

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
        :class:`~automation.context.AsyncStageContext`: ``in_flight`` items are at work at once.
        """
        raise TypeError(f"{type(self).__name__} does not define process(item, ctx)")


class GroupStage(BaseStage):
    """One step that turns ``group_size`` consecutive items (fewer in the last group) into outputs, as one unit."""

    group_size: ClassVar[int] = 10

    def process(self, items: Sequence[Any], ctx: StageContext) -> Outputs:
        """Return or yield the outputs of the group. The unit's key is that of its first item."""
        raise TypeError(f"{type(self).__name__} does not define process(items, ctx)")


AnyStage = Stage | GroupStage


class Pipeline:
    """Stages in order, or a DAG by their ``after``. Declared once, registered with :func:`register`."""

    slug: ClassVar[str]
    title: ClassVar[str]
    formerly: ClassVar[tuple[str, ...]] = ()
    """Slugs that it had in earlier releases: runs of then go on with it."""
    stages: ClassVar[Sequence[type[AnyStage]]] = ()
    item_type: ClassVar[type[Any] | None] = None
    """What an item of the input is, as ``item_type`` of a stage; the first stages may say it for themselves."""
    params: ClassVar[Sequence[Param]] = ()
    timeout: ClassVar[float | None] = None
    """Seconds of working time after which a run fails; pauses do not count. ``None`` is no limit."""
    retention_days: ClassVar[int | None] = None
    """A run that ended so long ago is deleted, unless its site says otherwise; ``None``: as the settings say."""
    item_timeout: ClassVar[float | None] = None
    """Seconds that one attempt at an item may take, in the stages that do not say."""
    uses_files: ClassVar[bool | None] = None
    """Whether its stages use ``ctx.artifacts``; ``None``: they do if a method of theirs names it.

    Such a run is started only while all live workers keep files in one storage (docs/storage.md).
    """
    needs_input: ClassVar[bool] = True
    """False if the pipeline makes its own items from its parameters in :meth:`make_items`."""
    reader: ClassVar[Reader] = Rows()
    """How files become items: each row or object as it is, unless a reader of your own says otherwise."""

    @classmethod
    def stage(cls, slug: str) -> type[AnyStage]:
        """The stage class of ``slug``; ``KeyError`` if there is none."""
        return cls._by_slug()[slug]

    @classmethod
    def _by_slug(cls) -> dict[str, type[AnyStage]]:
        return {stage.slug: stage for stage in cls.stages}

    @classmethod
    def predecessors(cls, slug: str) -> tuple[str, ...]:
        """Slugs of the stages whose outputs feed ``slug``; empty means the run's input does."""
        index = [stage.slug for stage in cls.stages].index(slug)
        declared = cls.stages[index].after
        if declared is not None:
            return declared
        return (cls.stages[index - 1].slug,) if index else ()

    @classmethod
    def clean_params(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with defaults filled in, or :class:`InvalidParams` naming the first that is wrong."""
        declared = {param.name: param for param in cls.params}
        for name in given:
            if name not in declared:
                allowed = ", ".join(sorted(declared)) or "none"
                raise InvalidParams(f"Cannot use parameter {name!r}: pipeline {cls.slug} takes {allowed}.")
        return {name: param.clean(given.get(name, param.default)) for name, param in declared.items()}

    @classmethod
    def load_params(cls, kept: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a run that was created with ``kept``, perhaps by another release.

        One that came since has its default, one that is declared no more stays. :class:`InvalidParams` if a value
        does not fit what is declared now.
        """
        return {**kept, **{param.name: param.clean(kept.get(param.name, param.default)) for param in cls.params}}

    @classmethod
    def clean_item(cls, item: Payload) -> Payload:
        """``item`` made fit for the first stage, or :class:`InvalidInput` saying what is wrong with it."""
        return item

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterable[Payload]:
        """The items of a pipeline with ``needs_input = False``."""
        raise InvalidInput(f"Cannot start pipeline {cls.slug} without input: it makes no items of its own.")


_registry: dict[str, type[Pipeline]] = {}


def register(pipeline: type[Pipeline]) -> type[Pipeline]:
    """Class decorator that makes ``pipeline`` known by its slug; raises ``PipelineError`` on any mistake in it."""
    check_pipeline(pipeline, _registry)
    _registry[pipeline.slug] = pipeline
    return pipeline


def get_pipeline(slug: str) -> type[Pipeline]:
    """The registered pipeline, or :class:`UnknownPipeline` listing those that exist."""
    try:
        return _registry[slug]
    except KeyError:
        known = ", ".join(sorted(_registry)) or "none"
        raise UnknownPipeline(f"Cannot find pipeline {slug!r}: expected one of {known}.") from None


def all_pipelines() -> list[type[Pipeline]]:
    """Every registered pipeline, by slug."""
    return [_registry[slug] for slug in sorted(_registry)]
