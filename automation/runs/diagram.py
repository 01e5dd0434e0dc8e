"""The state machine of a run as a page of documentation, made from the table of transitions and ``status.derive``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from automation.models import TERMINAL, Lifecycle
from automation.reports import status
from automation.runs.transitions import TABLE, Transition

_PAGE = """# The state machine of a run

Written by `manage.py write_reference` from `automation/runs/transitions.py` and `automation/reports/status.py`. Do not
edit.

## Lifecycle

A pause is not in the picture: a run that is paused keeps its lifecycle, and a hold lies over it.

```mermaid
stateDiagram-v2
    [*] --> pending: create
{arrows}
{ends}
```

| transition | from | to | sets |
|---|---|---|---|
{rows}

Every other pair is refused and changes nothing.

## Status

What people see is derived from the lifecycle and four facts. A dash means that the fact makes no difference.

| lifecycle | cancel requested | held | a slice is leased | the gate has reasons | status |
|---|---|---|---|---|---|
{statuses}
"""


def page(table: Sequence[Transition] = TABLE) -> str:
    """The whole of ``docs/reference/state_machine.md``, for the arrows of ``table``."""
    arrows = [f"    {source} --> {arrow.target}: {arrow.name}" for arrow in table for source in arrow.sources]
    ends = [f"    {lifecycle} --> [*]" for lifecycle in TERMINAL]
    rows = [
        f"| {arrow.name} | {', '.join(arrow.sources)} | {arrow.target} | "
        f"{', '.join(f'`{stamp}`' for stamp in _stamps(arrow))} |"
        for arrow in table
    ]
    return _PAGE.format(
        arrows="\n".join(arrows), ends="\n".join(ends), rows="\n".join(rows), statuses="\n".join(_statuses())
    )


def _stamps(arrow: Transition) -> list[str]:
    """The columns it sets, each once."""
    return list(dict.fromkeys([arrow.stamp, "finished_at"] if arrow.is_final else [arrow.stamp]))


_Facts = tuple[bool | None, ...]
"""Cancel requested, held, leased, has reasons; ``None`` is either."""


def _statuses() -> list[str]:
    rows = []
    for lifecycle in Lifecycle:
        for facts in _distinct_rows(lifecycle, (None, None, None, None)):
            (told,) = _possible(lifecycle, facts)
            cells = ["-" if fact is None else "yes" if fact else "no" for fact in facts]
            rows.append(f"| {' | '.join([lifecycle, *cells, told])} |")
    return rows


def _distinct_rows(lifecycle: str, facts: _Facts) -> list[_Facts]:
    """The fewest rows that say everything: a fact is a condition only where the status depends on it."""
    if len(_possible(lifecycle, facts)) == 1:
        return [facts]
    splits = []
    for index in (index for index, fact in enumerate(facts) if fact is None):
        halves = [(*facts[:index], answer, *facts[index + 1 :]) for answer in (True, False)]
        splits.append([row for half in halves for row in _distinct_rows(lifecycle, half)])
    return min(splits, key=len)


def _possible(lifecycle: str, facts: _Facts) -> set[str]:
    options = [(True, False) if fact is None else (fact,) for fact in facts]
    return {
        status.derive(lifecycle, is_cancel_requested=cancel, is_held=held, is_leased=leased, has_reasons=reasons)
        for cancel, held, leased, reasons in product(*options)
    }
