"""Each thread of ours that works with the database heals by itself: its rounds go through ``own_connection``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPS = ("pause_manager", "automation", "backend")

ALLOWED = {
    "pause_manager/worker/sampling.py": "hands what is for the database to the database thread",
    "automation/items/background_connection.py": "sends on its caller's connection, and gives up after any error",
    "automation/files/storage_reporter.py": "looks at the storage alone",
    "backend/supervision/supervisor.py": "copies the output of a process",
    "pause_manager/worker/loop.py": "makes the calls of others in green pools, which touch the broker alone",
    "pause_manager/database/watchdog.py": "ends the connections of others",
}
"""Why a module that starts a thread needs no connection of its own."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def starts_a_thread(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Call)
        and any(keyword.arg == "target" for keyword in node.keywords)
        and _name(node.func).endswith("Thread")
        for node in ast.walk(tree)
    )


def owns_its_connection(tree: ast.Module) -> bool:
    return any(
        isinstance(item.context_expr, ast.Call) and _name(item.context_expr.func).endswith("own_connection")
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
    )


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_a_thread_of_ours_owns_its_connection_or_has_a_reason_not_to():
    wrong = [
        path
        for path, tree in sources()
        if starts_a_thread(tree) and not owns_its_connection(tree) and path not in ALLOWED
    ]

    assert wrong == [], "wrap each round in database.own_connection(), or say in ALLOWED why that is not needed"


def test_no_reason_outlives_its_thread():
    threads = {path for path, tree in sources() if starts_a_thread(tree) and not owns_its_connection(tree)}

    assert set(ALLOWED) - threads == set()


@pytest.mark.parametrize(
    ("source", "starts", "owns"),
    [
        ("threading.Thread(target=run, daemon=True).start()", True, False),
        ("Thread(target=run)\nwith database.own_connection():\n    job()", True, True),
        ("with suppress(Error), own_connection():\n    job()", False, True),
        ("Thread()\nown_connection()", False, False),
    ],
)
def test_what_is_looked_for_is_found(source: str, starts: bool, owns: bool):
    tree = ast.parse(source)

    assert (starts_a_thread(tree), owns_its_connection(tree)) == (starts, owns)
