"""All that the author of a stage needs: ``Pipeline``, ``Stage``, ``GroupStage``, ``Needs``, ``Param``, ``register``."""

from automation.pipeline.pipeline import (
    AGENT,
    AnyStage,
    BaseStage,
    GroupStage,
    Needs,
    Param,
    Payload,
    Pipeline,
    Rows,
    Stage,
    TryLater,
    all_pipelines,
    get_pipeline,
    register,
    slug_name,
)

__all__ = [
    "AGENT",
    "AnyStage",
    "BaseStage",
    "GroupStage",
    "Needs",
    "Param",
    "Payload",
    "Pipeline",
    "Rows",
    "Stage",
    "TryLater",
    "all_pipelines",
    "get_pipeline",
    "register",
    "slug_name",
]
