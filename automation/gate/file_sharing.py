"""Whether those who work on a run have its files: the gate keeps a run that uses files from workers that share none.

Each worker tells with its reports where it keeps files, see ``place``. A run that uses none is kept by nothing of this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from automation.models import AutomationRun
from automation.pipeline import BaseStage, GroupStage, Pipeline, Stage, all_pipelines
from pause_manager import conf
from pause_manager.models import FleetWorker
from pause_manager.nodes import serving
from pause_manager.reasons import ReasonCode

NOT_SHARED = ReasonCode.FILES_NOT_SHARED
LIFTED_BY = (
    "all live workers keep files in one storage (STORAGE_URL=s3://bucket/prefix, or file:///path?shared=1 where each "
    "machine has that directory), or those that have another are stopped"
)
MOST_TOLD = 4

_RUN_USES = "(run.storage <> '' OR run.pipeline = ANY(%(filing)s::text[]))"
APART = f"""
    ({_RUN_USES} AND EXISTS (
        SELECT FROM {FleetWorker._meta.db_table} AS worker
         WHERE worker.files IS NOT NULL
           AND worker.last_seen_at >= statement_timestamp() - make_interval(secs => %(gone_seconds)s::float8)
        HAVING count(DISTINCT worker.files->>'place') > 1
            OR bool_or(run.storage <> '' AND worker.files->>'id' <> run.storage)))
"""
"""SQL over ``run``: it uses files that not all who live share. The statement is given :func:`values`."""


def values() -> dict[str, Any]:
    """What a statement with ``APART`` is given."""
    return {"filing": filing(), "gone_seconds": conf.settings().gone_seconds}


@dataclass(frozen=True)
class Told:
    """Where a live worker keeps files."""

    worker: str
    node: str
    id: str
    place: str
    name: str

    @property
    def sentence_part(self) -> str:
        return f"{self.worker} on {self.node} in {self.name}"


def told() -> list[Told]:
    """Where the live workers keep files, as far as they tell. One statement."""
    telling = serving.live().filter(files__isnull=False).order_by("node", "name")
    rows: list[tuple[str, str, Any]] = list(telling.values_list("name", "node", "files"))
    return [
        Told(name, node, *(str(files.get(key, "")) for key in ("id", "place", "name"))) for name, node, files in rows
    ]


def problem(run: AutomationRun, live: Sequence[Told]) -> str | None:
    """Why ``run`` may not be worked on by those who ``live``, in a sentence."""
    if not run.storage and run.pipeline not in filing():
        return None
    if (apart := difference(live)) is not None:
        return f"It uses files, and the live workers do not share them: {apart}."
    if run.storage and (others := [one for one in live if one.id != run.storage]):
        return f"Its files are in a storage that no live worker has: {_listed(others)}."
    return None


def difference(live: Iterable[Told]) -> str | None:
    """Who keeps files where, if that is not one place for all; a worker of each place is named."""
    by_place: dict[str, list[Told]] = {}
    for one in live:
        by_place.setdefault(one.place, []).append(one)
    if len(by_place) < 2:
        return None
    sentence = _listed([some[0] for some in by_place.values()])
    if any(count > 1 for count in Counter(some[0].name for some in by_place.values()).values()):
        sentence += " (each machine has such a directory of its own, as far as is declared)"
    return sentence


def _listed(some: Sequence[Told]) -> str:
    parts = [one.sentence_part for one in some[:MOST_TOLD]]
    if len(some) > MOST_TOLD:
        parts.append(f"{len(some) - MOST_TOLD} more")
    return "; ".join(parts)


def filing() -> list[str]:
    """Every name of the pipelines of this release that use files."""
    return [name for known in all_pipelines() if uses_files(known) for name in (known.slug, *known.formerly)]


def uses_files(pipeline: type[Pipeline]) -> bool:
    """Whether ``pipeline`` says so, or else any method of its stages names ``artifacts``."""
    if pipeline.uses_files is not None:
        return pipeline.uses_files
    known = _LOOKED.get(pipeline)
    if known is None:
        known = _LOOKED[pipeline] = any(_names_artifacts(stage) for stage in pipeline.stages)
    return known


_LOOKED: dict[type[Pipeline], bool] = {}
_OURS = (object, BaseStage, Stage, GroupStage)


def _names_artifacts(stage: type[BaseStage]) -> bool:
    methods = (value for base in stage.__mro__ if base not in _OURS for value in vars(base).values())
    return any(_is_named_in(code) for method in methods if (code := getattr(method, "__code__", None)) is not None)


def _is_named_in(code: CodeType) -> bool:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return "artifacts" in code.co_names or any(map(_is_named_in, inner))
