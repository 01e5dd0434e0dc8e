"""The pipelines that come with Slackwater; importing this package registers them."""

from automation.pipelines import content, drill

__all__ = ["content", "drill"]
