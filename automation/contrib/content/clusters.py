"""Keywords → Clusters: search queries that ask for the same thing, under a readable name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import orjson

from automation.contrib.content.language import slug_of
from automation.contrib.content.naming import Namer
from automation.pipeline import Needs, Payload, Stage
from automation.pipeline.context import StageContext

ARTIFACT = "clusters.json"
MOST_SHOWN = 50
BREATH_SECONDS = 0.001
"""Long enough to let a stop through."""


class Clusters(Stage):
    """All keywords are clustered once in ``prepare``; a keyword then yields its cluster if it is its first member.

    So progress counts keywords, and a stop falls between two of them.
    """

    slug = "clusters"
    title = "Keywords → Clusters"
    needs = Needs(cpu=1, memory_mib=512)

    def __init__(self) -> None:
        self._by_first_keyword: dict[str, Payload] | None = None

    @classmethod
    def label(cls, payload: Payload) -> str:
        return payload.get("keyword") or super().label(payload)

    def prepare(self, ctx: StageContext) -> None:
        # scikit-learn takes a second to import: only the loop that clusters pays for it
        from automation.contrib.content.clustering import group

        volumes: dict[str, int] = {}
        for item in ctx.items():
            volumes.setdefault(item["keyword"], volume_of(item))
        keywords = list(volumes)
        namer = Namer()
        slugs: set[str] = set()
        clusters: dict[str, Payload] = {}
        for members in group(keywords, ctx.params["keywords_per_cluster"], partial(ctx.sleep, BREATH_SECONDS)):
            words = [keywords[index] for index in members]
            name = namer.name(words)
            clusters[words[0]] = {
                "name": name,
                "slug": unique_slug(name, slugs),
                "keywords": words[:MOST_SHOWN],
                "size": len(words),
                "volumes": {word: volumes[word] for word in words[:MOST_SHOWN] if volumes[word] >= 0},
            }
        ctx.artifacts.save(ARTIFACT, orjson.dumps(clusters, option=orjson.OPT_INDENT_2))
        ctx.logger.info("Grouped %d keywords into %d clusters.", len(keywords), len(clusters))

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if self._by_first_keyword is None:
            self._by_first_keyword = orjson.loads(ctx.artifacts.read(ARTIFACT))
        cluster = self._by_first_keyword.get(item["keyword"])
        return () if cluster is None else (cluster,)


VOLUME_COLUMNS = ("volume", "search volume", "searches", "avg. monthly searches", "impressions", "clicks")
UNKNOWN = -1


def volume_of(item: Payload) -> int:
    """How often the keyword is searched for, as its row of the input says; :data:`UNKNOWN` if it does not."""
    by_name = {name.strip().casefold(): value for name, value in item.items()}
    for name in VOLUME_COLUMNS:
        digits = str(by_name.get(name, "")).strip().replace(",", "")
        if digits.isascii() and digits.isdecimal():
            return int(digits)
    return UNKNOWN


def unique_slug(name: str, taken: set[str]) -> str:
    """A file name for ``name`` that is not in ``taken``, which it joins."""
    base = slug = slug_of(name)
    number = 2
    while slug in taken:
        slug = f"{base}-{number}"
        number += 1
    taken.add(slug)
    return slug
