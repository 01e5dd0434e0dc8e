"""An article as Markdown, and as one HTML page that opens from disk."""

from __future__ import annotations

import re

from django.utils.html import escape

from automation.contrib.content.providers.base import Article

QUESTIONS = "Frequently Asked Questions"
CONCLUSION = "In Short"
NOINDEX = '<meta name="robots" content="noindex, nofollow">\n'
WORD = re.compile(r"\w[\w'’-]*")
STYLE = """
:root { color-scheme: light dark }
body { font: 18px/1.6 Georgia, serif; max-width: 42rem; margin: 3rem auto; padding: 0 1.25rem }
h1, h2, h3 { font-family: system-ui, sans-serif; line-height: 1.25 }
h1 { font-size: 2.1rem } h2 { margin-top: 2.2rem } .summary { font-size: 1.15rem; opacity: .75 }
table { border-collapse: collapse; width: 100% }
blockquote { margin: 1rem 0; padding: .5rem 1rem; border: 1px solid #b8860b; border-radius: .4rem }
th, td { border-bottom: 1px solid #8886; padding: .4rem; text-align: left }
"""


def to_markdown(article: Article) -> str:
    """The whole article with headings."""
    parts = [f"# {article.title}", *([f"> **{article.note}**"] if article.note else [])]
    parts += [f"*{article.summary}*", article.introduction]
    for section in article.sections:
        parts += [f"## {section.heading}", section.body]
    if article.questions:
        parts.append(f"## {QUESTIONS}")
    for question in article.questions:
        parts += [f"### {question.heading}", question.body]
    parts += [f"## {CONCLUSION}", article.conclusion]
    return "\n\n".join(parts) + "\n"


def to_html(article: Article, markdown: str) -> str:
    """A page with its own style; HTML inside the Markdown, which a model may write, is shown as text."""
    from markdown_it import MarkdownIt  # here: most processes render nothing

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{NOINDEX if article.note else ''}<title>{escape(article.title)}</title>\n"
        f'<meta name="description" content="{escape(article.summary)}">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<article>\n{body}</article>\n</body>\n</html>\n"
    )


def word_count(markdown: str) -> int:
    return len(WORD.findall(markdown))
