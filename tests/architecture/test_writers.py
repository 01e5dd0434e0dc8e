"""One writer per table: only the files named here create, change or delete its rows, or name it in writing SQL.

Read from the code: calls of the manager's writing methods, also through a name that holds a queryset, and SQL texts, in
which a table is named by itself, by ``_meta.db_table`` or by a constant that stands for it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.apps import apps

from automation.contrib.credits.models import tables as credit_tables
from automation.models import tables

ROOT = Path(__file__).parents[2]
MODELS = {
    model.__name__: model._meta.db_table
    for app in ("pause_manager", "automation", "credits")
    for model in apps.get_app_config(app).get_models()
}
NAMES = {table: name for name, table in MODELS.items()}
CONSTANTS = {
    name: NAMES[table]
    for name, table in [*vars(tables).items(), *vars(credit_tables).items()]
    if isinstance(table, str) and table in NAMES
}
METHODS = {"create", "get_or_create", "update_or_create", "bulk_create", "bulk_update", "update", "delete"}
SQL = re.compile(r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|COPY|TRUNCATE)\s+(?:ONLY\s+)?([^\s(,;]+)", re.IGNORECASE)

QUERYSETS = {
    name: model.__name__
    for app in ("pause_manager", "automation", "credits")
    for model in apps.get_app_config(app).get_models()
    if (name := type(model._default_manager.all()).__name__) != "QuerySet"
}

WRITERS: dict[str, set[str]] = {
    "Account": {"backend/bootstrap.py"},
    "Agent": {"automation/agents/registry.py"},
    "Billing": {
        "automation/contrib/credits/accounts.py",
        "automation/contrib/credits/ledger.py",
        "automation/contrib/credits/low_balances.py",
    },
    "CapacitySample": {"pause_manager/nodes/registry.py"},
    "ControlEvent": {"pause_manager/observability/audit.py"},
    # The second writes one setting of the fleet, which no hold decides.
    "ControlState": {"pause_manager/holds/fleet_state.py", "pause_manager/nodes/watching.py"},
    "CounterTotal": {"pause_manager/observability/counters.py"},
    "FailedTask": {"pause_manager/pausable/failed_tasks.py"},
    "FleetWorker": {"pause_manager/nodes/members.py"},
    # A trigger of the database writes the other half of what credits keep.
    "Grant": {"automation/contrib/credits/allowance.py", "automation/contrib/credits/settling.py"},
    "Invoice": {"automation/contrib/credits/invoices.py"},
    "InvoiceNumber": {"automation/contrib/credits/invoices.py"},
    "Line": {"automation/contrib/credits/ledger.py"},
    "RunCredits": {"automation/contrib/credits/settling.py", "automation/contrib/credits/starting.py"},
    "Payment": {
        "automation/contrib/credits/payments/booking.py",
        "automation/contrib/credits/payments/orders.py",
    },
    "PaymentNotice": {"automation/contrib/credits/payments/booking.py"},
    "StagePrice": {"automation/contrib/credits/starting.py"},
    "Transfer": {"automation/contrib/credits/ledger.py"},
    "Usage": {"automation/contrib/credits/settling.py"},
    # The second only notes when work had drained and resumed, never what is held.
    "Hold": {"pause_manager/holds/writer.py", "pause_manager/holds/milestones.py"},
    "IdempotencyRecord": {"pause_manager/api/http/idempotency.py"},
    "Lane": {"automation/runs/lanes.py"},
    "ItemFailure": {"automation/leases/checkpoint.py"},
    "Membership": {"backend/bootstrap.py"},
    "Override": {"pause_manager/overrides/writer.py"},
    "Schedule": {"automation/schedules/writer.py"},
    "ScheduleOccurrence": {"automation/schedules/writer.py"},
    # The first writes the state, by its table of transitions; the second the other columns.
    "PauseQueueEntry": {"pause_manager/pause_queue/transitions.py", "pause_manager/pause_queue/writer.py"},
    "PauseWindow": {"pause_manager/holds/windows.py"},
    "PollState": {"pause_manager/pause_queue/poller.py"},
    "Resource": {"pause_manager/resources/writer.py"},
    "RunQuestion": {"automation/runs/questions.py"},
    "RunDependency": {"automation/runs/dependency_rows.py"},
    "RunningTask": {"pause_manager/pausable/running_tasks.py"},
    "SiteBudget": {"automation/contrib/credits/accounts.py"},
    "Site": {"backend/bootstrap.py"},
    # A trigger of the database keeps them.
    "SliceTotals": set(),
    "Standstill": {"automation/gate/standstills.py"},
    "WaitingSample": {"pause_manager/observability/waiting.py"},
    "CounterSample": {"pause_manager/observability/counter_history.py"},
    "WorkerNode": {"pause_manager/nodes/registry.py"},
    # From here on more files write a table than should: what is listed may shrink and must not grow.
    "Artifact": {"automation/files/catalog.py", "automation/files/sweep.py"},
    "AutomationRun": {
        "automation/files/catalog.py",
        "automation/retention/purge.py",
        "automation/runs/creation.py",
        "automation/runs/lifecycle.py",
        # Where a run is in its lane, which no lifecycle decides.
        "automation/runs/places.py",
        "automation/runs/retries.py",
        "automation/runs/transitions.py",
        "automation/workload/run_holds.py",
    },
    "ItemChunk": {"automation/items/partial_items.py", "automation/leases/checkpoint.py"},
    "ItemState": {"automation/items/partial_items.py", "automation/leases/checkpoint.py"},
    "Machine": {
        "pause_manager/nodes/machines/containers.py",
        "pause_manager/nodes/machines/identity.py",
        "pause_manager/nodes/machines/renaming.py",
        "pause_manager/nodes/registry.py",
    },
    "StageRun": {
        "automation/leases/batches.py",
        "automation/dispatch/turns.py",
        "automation/runs/creation.py",
        "automation/runs/remainder.py",
        "automation/runs/stage_rows.py",
        "automation/runs/transitions.py",
        "automation/runs/loop_failures.py",
    },
    "Ticket": {"automation/dispatch/dispatcher.py", "automation/dispatch/turns.py"},
    "WorkItem": {
        "automation/items/store.py",
        "automation/leases/checkpoint.py",
        "automation/runs/remainder.py",
    },
    "WorkSlice": {
        "automation/items/partial_items.py",
        "automation/leases/checkpoint.py",
        "automation/leases/claims.py",
        "automation/leases/holders.py",
        "automation/leases/reaper.py",
        "automation/leases/releases.py",
        "automation/leases/renewals.py",
        "automation/leases/split.py",
        "automation/runs/advancing.py",
    },
}


@cache
def trees() -> dict[str, ast.Module]:
    files = [path for app in ("pause_manager", "automation", "backend") for path in (ROOT / app).rglob("*.py")]
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files if "migrations" not in path.parts
    }


@cache
def writers() -> dict[str, set[str]]:
    """The files that write each table, by the name of its model."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees().items():
        constants = {**CONSTANTS, **_constants(tree)}
        for model in [*_by_methods(tree), *_by_sql(tree, constants)]:
            found[model].add(path)
    return found


def _constants(tree: ast.Module) -> dict[str, str]:
    """The names of the module that stand for a table: ``A = X._meta.db_table``, alone or several at once."""
    found: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name) and (model := _model_of_table(value)):
            found[target.id] = model
        elif isinstance(target, ast.Tuple):
            values = value.generators[0].iter if isinstance(value, ast.GeneratorExp) else value
            for name, one in zip(target.elts, getattr(values, "elts", []), strict=False):
                model = one.id if isinstance(one, ast.Name) and one.id in MODELS else _model_of_table(one)
                if isinstance(name, ast.Name) and model:
                    found[name.id] = model
    return found


def _model_of_table(node: ast.expr) -> str | None:
    """``X`` of ``X._meta.db_table``."""
    match node:
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="_meta"), attr="db_table"):
            return name if name in MODELS else None
    return None


def _by_methods(tree: ast.Module) -> Iterator[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for scope in functions:
        held = {
            argument.arg: QUERYSETS[argument.annotation.id]
            for argument in scope.args.args
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id in QUERYSETS
        }
        held |= {
            node.targets[0].id: model
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and (model := _queried(node.value, {}))
        }
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                model = _queried(node.func.value, held)
                if model:
                    yield model


def _queried(node: ast.expr, held: dict[str, str]) -> str | None:
    """The model whose manager, or a queryset of which, ``node`` is."""
    while True:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="objects"):
                return name if name in MODELS else None
            case ast.Call(func=inner) | ast.Attribute(value=inner) | ast.Subscript(value=inner):
                node = inner
            case ast.Name(id=name):
                return held.get(name)
            case _:
                return None


def _by_sql(tree: ast.Module, constants: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(_part(part, constants) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        for match in SQL.finditer(text):
            if match[1] in NAMES:
                yield NAMES[match[1]]


def _part(part: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value = part.value
    model = _model_of_table(value)
    if isinstance(value, ast.Name):
        model = constants.get(value.id)
    elif isinstance(value, ast.Attribute) and model is None:
        model = constants.get(value.attr)
    return MODELS[model] if model else "{}"


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_table_is_written_by_the_files_that_are_named(model: str):
    named = WRITERS.get(model, set())

    assert writers()[model] - named == set(), f"rows of {model} are written by its own file, see WRITERS"
    assert named - writers()[model] == set(), f"it does not write {model} any more: take it out of WRITERS"


def test_a_new_writer_would_be_seen():
    code = """
_ENTRY = PauseQueueEntry._meta.db_table
SQL = f"UPDATE {_ENTRY} SET reason = ''"
def f():
    rows = Hold.objects.filter(pk=1)
    rows.update(reason="")
def g(entries: PauseQueueQuerySet):
    entries.filter(pk=1).delete()
"""
    tree = ast.parse(code)

    assert set(_by_sql(tree, _constants(tree))) == {"PauseQueueEntry"}
    assert list(_by_methods(tree)) == ["Hold", "PauseQueueEntry"]
