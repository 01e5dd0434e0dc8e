"""The ``content`` pipeline: from search queries to illustrated articles, in six stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automation.contrib.content.articles import Content
from automation.contrib.content.briefs import Tasks
from automation.contrib.content.clusters import Clusters
from automation.contrib.content.ideas import Ideas
from automation.contrib.content.images import Images
from automation.contrib.content.keywords import Keywords, clean_keyword
from automation.contrib.content.prompts import Prompts
from automation.contrib.content.providers import check_params
from automation.errors import InvalidInput
from automation.pipeline import Param, Payload, Pipeline, register


@register
class ContentPipeline(Pipeline):
    """Keys and passwords are never parameters: they come from the settings ``TEXT_PROVIDER_API_KEY`` and so on."""

    slug = "content"
    title = "Content"
    stages = (Clusters, Ideas, Tasks, Content, Prompts, Images)
    reader = Keywords()
    sample = Path(__file__).parent / "sample" / "keywords-400.csv"
    params = (
        Param("keywords_per_cluster", int, 8, "Keywords a cluster has on average.", minimum=1, maximum=1_000),
        Param(
            "ideas_per_cluster",
            int,
            3,
            "Articles written for each cluster.",
            minimum=1,
            maximum=20,
            label="Articles per cluster",
        ),
        Param(
            "words",
            int,
            700,
            "Words an article should have; the offline writer writes less.",
            minimum=200,
            maximum=3_000,
            label="Words per article",
        ),
        Param("images_per_article", int, 1, "Pictures drawn for each article.", minimum=1, maximum=10),
        Param(
            "provider",
            str,
            "offline",
            "Who writes the texts; offline writes demo texts.",
            choices=("offline", "openai"),
            label="Text provider",
        ),
        Param("image_provider", str, "offline", "Who draws the pictures.", choices=("offline", "openai")),
        Param(
            "base_url",
            str,
            "",
            "OpenAI-compatible, host in TEXT_PROVIDER_HOSTS; empty: TEXT_PROVIDER_BASE_URL.",
            label="Address of the text provider",
        ),
        Param("model", str, "", "As the text provider calls it.", label="Text model"),
        Param("image_model", str, "", "As the image provider calls it."),
        Param(
            "api",
            str,
            "chat",
            "completion is for base models without a chat template.",
            choices=("chat", "completion"),
            label="Kind of text model",
        ),
        Param(
            "timeout",
            float,
            60.0,
            "Seconds to wait for one answer of a provider.",
            minimum=1,
            maximum=3_600,
            label="Wait for an answer (seconds)",
        ),
    )

    @classmethod
    def clean_params(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        cleaned = super().clean_params(given)
        check_params(cleaned)
        return cleaned

    @classmethod
    def clean_item(cls, item: Payload) -> Payload:
        if not isinstance(item.get("keyword"), str):
            raise InvalidInput(f"expected an item with the text 'keyword', got: {item!r:.200}")
        return {**item, "keyword": clean_keyword(item["keyword"])}
