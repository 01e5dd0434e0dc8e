"""Stages in order, or as a graph, with parameters and the reader of their input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from automation.errors import InvalidInput, InvalidParams
from automation.inputs import Reader, Rows
from automation.pipeline.params import Param
from automation.pipeline.stage import AnyStage, Payload


class Pipeline:
    """Stages in order, or a DAG by their ``after``. Declared once, registered with :func:`register`."""

    slug: ClassVar[str]
    title: ClassVar[str]
    formerly: ClassVar[tuple[str, ...]] = ()
    """Slugs that it had in earlier releases: their runs continue with it."""
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

    Such a run is started only while all live workers keep files in one storage (docs/howto/storage.md).
    """
    needs_input: ClassVar[bool] = True
    """False if the pipeline makes its own items from its parameters in :meth:`make_items`."""
    reader: ClassVar[Reader] = Rows()
    """How files become items: each row or object as it is, unless a reader of your own says otherwise."""

    sample: ClassVar[Path | None] = None
    """A file that a person may start a first run from."""

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

        A parameter added since has its default; one that is no longer declared stays. :class:`InvalidParams` if a value
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
