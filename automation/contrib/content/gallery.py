"""What a finished run leaves to look at: a page of all pictures and articles, and a table of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from urllib.parse import quote

from django.utils.html import escape

from automation.contrib.content.quality import own_shares, quality
from automation.contrib.content.rendering import NOINDEX
from automation.pipeline import Payload

COLUMNS = (
    "cluster",
    "title",
    "quality",
    "own_sentences",
    "on_topic",
    "words",
    "article",
    "file",
    "width",
    "height",
    "bytes",
    "sha256",
    "prompt",
)
DEMO = "Demo texts, made from the search terms alone by Slackwater's offline writer. Not for publication."
FORMULA = ("=", "+", "-", "@", "\t", "\r")
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1.25rem }
h2 { margin: 2.5rem 0 1rem; font-size: 1.15rem } a { color: inherit; text-decoration: none }
a:hover { text-decoration: underline }
.demo { border: 1px solid #b8860b; border-radius: .4rem; padding: .5rem 1rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.5rem }
figure { margin: 0 } img { width: 100%; height: auto; border-radius: .6rem; display: block }
figcaption { margin-top: .5rem } small { opacity: .7; display: block }
"""


def results_table(results: Sequence[Payload]) -> bytes:
    """One row a picture, as CSV with a byte order mark, which spreadsheets need to read UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([[safe_cell(row[column]) for column in COLUMNS] for row in judged(results)])
    return text.getvalue().encode("utf-8-sig")


def judged(results: Sequence[Payload]) -> list[Payload]:
    """The results with ``own_sentences`` and ``quality`` of their articles, which only a whole run can tell."""
    articles = {result["article"]: result for result in results}
    own = own_shares([article["fingerprint"] for article in articles.values()])
    shares = dict(zip(articles, own, strict=True))
    return [
        {
            **result,
            "own_sentences": shares[result["article"]],
            "quality": quality(shares[result["article"]], result["on_topic"], result["words"]),
        }
        for result in results
    ]


def safe_cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


def gallery_page(results: Sequence[Payload]) -> str:
    """All results by cluster, linking to pictures and articles relative to the page itself."""
    clusters: dict[str, list[Payload]] = {}
    for result in results:
        clusters.setdefault(result["cluster"], []).append(result)
    sections = "".join(
        f'<section>\n<h2>{escape(name)}</h2>\n<div class="grid">\n{"".join(map(_figure, members))}</div>\n</section>\n'
        for name, members in clusters.items()
    )
    note = f'<p class="demo"><strong>{DEMO}</strong></p>\n' if any(result["is_demo"] for result in results) else ""
    articles = len({result["article"] for result in results})
    count = f"{len(clusters):,} clusters, {articles:,} articles, {len(results):,} images"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{NOINDEX if note else ''}<title>Results: {count}</title>\n<style>{STYLE}</style>\n</head>\n"
        f'<body>\n<h1>Results</h1>\n<p>{count}. <a href="results.csv"><u>results.csv</u></a></p>\n{note}'
        f"{sections}</body>\n</html>\n"
    )


def _figure(result: Payload) -> str:
    picture = quote(result["file"].rsplit("/", 1)[-1])
    article = quote(f"../{result['article']}")
    title = escape(result["title"])
    return (
        f'<figure><a href="{article}"><img src="{picture}" alt="{title}" loading="lazy" width="{result["width"]}"'
        f' height="{result["height"]}"></a>\n<figcaption><a href="{article}">{title}</a>'
        f"<small>{escape(result['summary'])}</small></figcaption></figure>\n"
    )
