"""A stage as it was declared when its run was created; kept as JSON in the row of the stage.

Everything that moves a run or shows it reads these, never the declarations of now. Code is looked up by them where it
runs, see ``installed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from automation.errors import PipelineError
from automation.pipeline.failure_limit import HOLD, FailureLimit
from automation.pipeline.params import AGENT
from automation.pipeline.pipeline import Pipeline
from automation.pipeline.stage import AnyStage, BaseStage, GroupStage
from pause_manager.capacity.needs import Needs

if TYPE_CHECKING:
    from automation.models import StageRun

INPUT = "input"
"""Slug of the stage run at position -1, which stands for the run's input."""

ITEM, GROUP = "item", "group"
HOOKS = ("prepare", "finish")

QUEUE = "(stage.definition->>'queue')"
"""SQL over ``stage``, as all that follow."""
CONCURRENCY = "(stage.definition->>'concurrency')::int"
IN_FLIGHT = "coalesce((stage.definition->>'in_flight')::int, 1)"
GROUP_SIZE = "coalesce((stage.definition->>'group_size')::int, 1)"
USED = "(SELECT jsonb_array_elements_text(stage.definition->'uses'))"
"""The names of the resources that it uses: a row each."""
USES_NOTHING = "(coalesce(jsonb_array_length(stage.definition->'uses'), 0) = 0)"
"""It uses no resources."""
BATCH_DELAY = "coalesce((stage.definition->>'batch_delay')::float8, 0)"
"""Seconds between two batches."""
IS_PLAIN = f"({USES_NOTHING} AND {BATCH_DELAY} = 0)"
"""It uses no resources, and its batches follow each other at once."""
INTERFACE = "(stage.definition->>'interface')"


@dataclass(frozen=True)
class Definition:
    """What ``automation.pipeline`` says of each field. Fields that a release adds have the default of ``BaseStage``."""

    title: str
    after: tuple[str, ...]
    """Slugs of the run's stages whose outputs are its items; empty: the run's input."""
    interface: str
    """What is called with what: ``item`` or ``group`` (``process``), or ``agent``: no code of ours."""
    hooks: tuple[str, ...] = ()
    """Which of ``prepare`` and ``finish`` it has."""
    queue: str = BaseStage.queue
    needs: Needs = BaseStage.needs
    concurrency: int | None = BaseStage.concurrency
    in_flight: int = BaseStage.in_flight
    retries: int = BaseStage.retries
    retry_backoff: float = BaseStage.retry_backoff
    retry_jitter: float = BaseStage.retry_jitter
    max_waits: int = BaseStage.max_waits
    max_wait_seconds: float = BaseStage.max_wait_seconds
    loop_retries: int = BaseStage.loop_retries
    max_item_bytes: int | None = BaseStage.max_item_bytes
    checkpoint_interval: float | None = BaseStage.checkpoint_interval
    max_failures: FailureLimit = BaseStage.max_failures
    item_timeout: float | None = BaseStage.item_timeout
    hook_timeout: float | None = BaseStage.hook_timeout
    on_exhausted: str = BaseStage.on_exhausted
    timeout: float | None = BaseStage.timeout
    irreversible: bool = BaseStage.irreversible
    slice_size: int | None = BaseStage.slice_size
    batch_delay: float = BaseStage.batch_delay
    stage_delay: float = BaseStage.stage_delay
    max_items: int | None = BaseStage.max_items
    group_size: int = BaseStage.group_size
    isolate_gpus: bool = BaseStage.isolate_gpus
    uses: tuple[str, ...] = BaseStage.uses
    """Of what its class declares, what a run with these parameters uses."""

    @property
    def asks_when_exhausted(self) -> bool:
        """Whether a person is asked where it would otherwise give up."""
        return self.on_exhausted == HOLD

    @property
    def is_for_agents(self) -> bool:
        return self.interface == AGENT

    @property
    def sources(self) -> tuple[str, ...]:
        """Slugs of the rows that made its items, the input among them."""
        return self.after or (INPUT,)


OPTIONS = tuple(
    field.name for field in fields(Definition) if field.name not in {"title", "after", "interface", "hooks"}
)
"""What a stage class declares under the same name."""


def declared(pipeline: type[Pipeline], stage: type[AnyStage], params: Mapping[str, Any] | None = None) -> Definition:
    """``stage`` as ``pipeline`` declares it now, for a run with ``params`` (``None``: for any)."""
    return Definition(
        title=stage.title,
        after=pipeline.predecessors(stage.slug),
        interface=interface_of(stage),
        hooks=tuple(hook for hook in HOOKS if getattr(stage, hook) is not getattr(BaseStage, hook)),
        **{name: getattr(stage, name) for name in OPTIONS}
        | {
            "item_timeout": pipeline.item_timeout if stage.item_timeout is None else stage.item_timeout,
            "uses": stage.uses if params is None else _used(stage, params),
        },
    )


def _used(stage: type[AnyStage], params: Mapping[str, Any]) -> tuple[str, ...]:
    used = tuple(stage.uses_with(params))
    if unknown := set(used).difference(stage.uses):
        listed = ", ".join(stage.uses) or "none"
        raise PipelineError(
            f"Cannot use resource {min(unknown)}: {stage.__name__}.uses_with expected some of its uses ({listed})."
        )
    return used


def interface_of(stage: type[AnyStage]) -> str:
    if stage.executor == AGENT:
        return AGENT
    return GROUP if issubclass(stage, GroupStage) else ITEM


def of(stage_run: StageRun) -> Definition:
    """The definition in the row, which must have one."""
    kept: dict[str, Any] = stage_run.definition or {}
    known = {field.name: kept[field.name] for field in fields(Definition) if field.name in kept}
    known |= {name: tuple(known[name]) for name in ("after", "hooks", "uses") if name in known}
    return Definition(**known | {"needs": needs_of(kept.get("needs", {}))})


def needs_of(kept: Mapping[str, Any]) -> Needs:
    """``Needs`` from JSON, without what only another release knows."""
    names = {field.name for field in fields(Needs)}
    return Needs(**{name: value for name, value in kept.items() if name in names})


def as_json(definition: Definition) -> dict[str, Any]:
    return asdict(definition)


class Graph:
    """Which stage of one run feeds which."""

    def __init__(self, after: Mapping[str, tuple[str, ...]]) -> None:
        self._after = after

    def predecessors(self, slug: str) -> tuple[str, ...]:
        """Slugs of the stages whose outputs feed ``slug``; empty means the run's input does."""
        return self._after[slug]

    def readers(self, slug: str) -> list[str]:
        """The stages whose items are the outputs of ``slug``, in order."""
        return [reader for reader, after in self._after.items() if slug in (after or (INPUT,))]
