"""Charts and their tables as markup made here: of hundreds of figures, which a template renders ten times slower."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString

from pause_manager.console.charts import Bar
from pause_manager.console.templatetags.console import moment

register = template.Library()


@register.filter
def figure_rows(rows: Iterable[tuple[datetime, Sequence[float | None]]], digits: int = 0) -> SafeString:
    """The rows of a table: a time, and figures with that many digits after the point; a dash for what is unknown."""
    return SafeString("".join(f"<tr><td>{moment(at)}</td>{_cells(figures, digits)}</tr>" for at, figures in rows))


def _cells(figures: Sequence[float | None], digits: int) -> str:
    style = f".{digits}f" if digits else ",d"
    words = ["–" if figure is None else format(figure, style) for figure in figures]
    return "".join(f'<td class="number">{word}</td>' for word in words)


@register.filter
def drawn(bar: Bar, owner: str) -> SafeString:
    """The stacked bar of ``owner``, and its parts in words."""
    label, words = escape(f"{owner}, {bar.title}: {bar.words}"), escape(bar.words)
    parts = "".join(f'<rect class="{part.kind}" x="{part.x}" width="{part.width}" height="10"/>' for part in bar.parts)
    mark = "" if bar.mark is None else f'<line class="mark" x1="{bar.mark}" x2="{bar.mark}" y1="0" y2="10"/>'
    figures = "".join(f"<span>{escape(part.amount)} {part.kind}</span>" for part in bar.parts)
    return SafeString(
        f'<svg class="stack" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<title>{words}</title>{parts}{mark}</svg>\n      <p class="figures small muted">{figures}</p>'
    )
