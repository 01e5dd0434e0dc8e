"""The page of the audit trail's actions: every action that the code records, with its meaning."""

from __future__ import annotations

import ast

from backend.reference import source
from backend.reference.actions import ACTIONS

RECORDERS = {"record", "record_each"}


def recorded() -> set[str]:
    """Every action that some call of ``audit.record`` or ``audit.record_each`` can record."""
    found: set[str] = set()
    for module in source.modules():
        for call in module.calls():
            if source.name_of(call) in RECORDERS and call.args and _is_audit(call):
                found |= source.strings(call.args[0], module)
    return found


def _is_audit(call: ast.Call) -> bool:
    """True for ``audit.record(...)`` and, with a literal action, for the audit module's own calls."""
    if isinstance(call.func, ast.Name):
        return isinstance(call.args[0], ast.Constant)
    return (
        isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "audit"
    )


def page() -> str:
    """``docs/reference/events.md``. Raises ``LookupError`` if an action has no meaning or a meaning no action."""
    actions = recorded()
    if actions != ACTIONS.keys():
        raise LookupError(
            f"Cannot write the page of events: without a meaning in backend/reference/actions.py: "
            f"{sorted(actions - ACTIONS.keys())}; "
            f"never recorded: {sorted(ACTIONS.keys() - actions)}."
        )
    rows = "\n".join(f"| `{action}` | {ACTIONS[action]} |" for action in sorted(actions))
    return _PAGE.format(rows=rows)


_PAGE = """\
# Events

Written by `manage.py write_reference` from the code. Do not edit.

Every change writes exactly one event to the [audit trail](../operations/observability.md#the-audit-trail), in the
transaction of the change.

| field | meaning |
|---|---|
| `at` | when, by the database's clock |
| `action` | what happened: one of the list below |
| `scope` | to what: `fleet`, `run:ID`, `node:NAME`, `queue:NAME`, `pipeline:SLUG`, `lane:SITE`, `agent:NAME`, … |
| `actor` | who: `user:NAME`, `shell:NAME`, `agent:NAME`, `address:IP`, `schedule:SITE/NAME`, `capacity`, `system`, … |
| `channel` | how: `api`, `console`, `admin`, `cli`, `mcp`, `worker`, `policy`, `schedule`, `window` |
| `reason` | why, as a sentence |
| `request_id` | the request, as in the logs and in `X-Request-ID` |
| `before`, `after` | the values that changed |
| `details` | facts and numbers on which the decision was based |

| action | meaning |
|---|---|
{rows}
"""
