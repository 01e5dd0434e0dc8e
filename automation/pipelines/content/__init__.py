"""Search queries become illustrated articles: six stages, one file each."""

from automation.pipelines.content.pipeline import ContentPipeline

__all__ = ["ContentPipeline"]
