"""The pipelines of this release, by slug."""

from __future__ import annotations

from automation.errors import UnknownPipeline
from automation.pipeline.checks import check_pipeline
from automation.pipeline.pipeline import Pipeline

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
