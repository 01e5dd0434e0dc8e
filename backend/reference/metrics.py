"""The page of the metrics: every counter, histogram and gauge that the code declares."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from backend.reference import source

KINDS = ("counter", "gauge", "histogram")
PREFIX = "slackwater_"


@dataclass(frozen=True, order=True)
class Metric:
    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def declared() -> list[Metric]:
    """Every metric, by name."""
    return sorted({one for module in source.modules() for call in module.calls() for one in _metrics(call, module)})


def _metrics(call: ast.Call, module: source.Module) -> list[Metric]:
    kind = source.name_of(call)
    if kind not in KINDS or len(call.args) < 2 or PREFIX not in ast.unparse(call.args[0]):
        return []
    helps = _family(call, module)
    if not helps:
        help_text = ast.literal_eval(call.args[1])
        helps = dict.fromkeys(source.strings(call.args[0], module), help_text)
    return [Metric(name, kind, _labels(call), text) for name, text in helps.items()]


def _family(call: ast.Call, module: source.Module) -> dict[str, str]:
    """Name and help of each gauge that a comprehension over literal pairs declares by ``call``; else nothing."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.DictComp) and node.value is call:
            rows = ast.literal_eval(node.generators[0].iter)
            (start,) = (str(part.value) for part in ast.walk(call.args[0]) if isinstance(part, ast.Constant))
            return {f"{start}{name}": text for name, text in rows}
    return {}


def _labels(call: ast.Call) -> tuple[str, ...]:
    """Labels are a tuple for counts, and single strings for gauges."""
    given = [word.value for word in call.keywords if word.arg == "labels"] or call.args[2:]
    flat = [item for one in given for item in (one.elts if isinstance(one, ast.Tuple) else [one])]
    return tuple(item.value for item in flat if isinstance(item, ast.Constant) and isinstance(item.value, str))


def page() -> str:
    """``docs/reference/metrics.md``."""
    return _PAGE.format(rows="\n".join(map(_row, declared())))


def _row(one: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{one.name}` | {one.kind} | {labels} | {source.one_line(one.help)} |"


_PAGE = """\
# Metrics

Written by `manage.py write_reference` from the code. Do not edit.

`GET /metrics` of any web process returns all of them; [observability](../operations/observability.md#metrics) says who
may read them and what to watch. A histogram has `_bucket`, `_sum` and `_count` series.

| name | type | labels | meaning |
|---|---|---|---|
{rows}
"""
