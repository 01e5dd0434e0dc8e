"""What each statement looks at: told by PostgreSQL, which carries it out for that once more, and takes it back."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

_EXPLAINED = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|EXECUTE|\()", re.IGNORECASE)
_SESSION_LOCKS = re.compile(r"pg_(try_)?advisory_(un)?lock\(")
"""Such a lock would outlive the taking back."""
_OFTEN = 3
"""The same text is explained so often for one caller; other values may have another plan."""


@dataclass(frozen=True)
class Step:
    """One step of a plan over a table: ``rows`` looked at, those that a filter threw away included."""

    label: str
    statement: str
    node: str
    table: str
    index: str
    rows: int
    milliseconds: float
    """Of the whole statement."""

    def __str__(self) -> str:
        by = f" by {self.index}" if self.index else ""
        text = " ".join(self.statement.split())
        return f"{self.label}: {self.node} of {self.table}{by}: {self.rows:,} rows, {self.milliseconds:.0f} ms: {text}"


@dataclass
class Explainer:
    """Collects the steps over ``tables`` of whatever is done within :meth:`of`."""

    tables: Sequence[str]
    steps: list[Step] = field(default_factory=list)
    statements: Counter[str] = field(default_factory=Counter)
    """By label, how many statements were explained."""

    @contextmanager
    def of(self, label: str) -> Iterator[None]:
        """Explain what is executed meanwhile, as done by ``label``."""
        seen: Counter[str] = Counter()

        def wrapper(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
            text = str(sql)
            seen[text] += 1
            is_plain = _EXPLAINED.match(text) and not many and not _SESSION_LOCKS.search(text)
            if is_plain and seen[text] <= _OFTEN:
                self._explain(label, execute, text, params, context)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(wrapper):
            yield

    def _explain(self, label: str, execute: Any, text: str, params: Any, context: dict[str, Any]) -> None:
        begin, end = "BEGIN", ["ROLLBACK"]
        if connection.in_atomic_block:
            begin, end = "SAVEPOINT explained", ["ROLLBACK TO SAVEPOINT explained", "RELEASE SAVEPOINT explained"]
        raw = connection.connection
        raw.execute(begin)
        try:
            execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}", params, False, context)
            (found,) = context["cursor"].fetchone()
        finally:
            for statement in end:
                raw.execute(statement)
        [plan] = json.loads(found) if isinstance(found, str) else found
        self.statements[label] += 1
        for node in _nodes(plan["Plan"]):
            if node.get("Relation Name") in self.tables:
                self.steps.append(_step(label, text, node, plan["Execution Time"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _step(label: str, text: str, node: dict[str, Any], milliseconds: float) -> Step:
    removed = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return Step(
        label=label,
        statement=text,
        node=node["Node Type"],
        table=node["Relation Name"],
        index=node.get("Index Name", ""),
        rows=round((node["Actual Rows"] + removed) * node["Actual Loops"]),
        milliseconds=milliseconds,
    )
