"""The pipelines that come with Slackwater; importing this package registers them."""

from automation.pipelines import drill

__all__ = ["drill"]
