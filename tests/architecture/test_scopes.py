"""How the scope of a run is written is known to one module; SQL, where it is part of a statement, aside."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.test_threads import sources

OWNER = "pause_manager/scopes.py"
PREFIX = "run:"


def spells_a_run(tree: ast.Module) -> bool:
    """Whether a text or an f-string is the prefix, or begins with it."""
    return any(isinstance(node, ast.Constant) and node.value == PREFIX for node in ast.walk(tree))


def test_nobody_spells_the_scope_of_a_run():
    wrong = [path for path, tree in sources() if path != OWNER and "/migrations/" not in path and spells_a_run(tree)]

    assert wrong == [], "use run(), is_run() or RUNS of pause_manager.scopes"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('scope = f"run:{pk}"', True),
        ('scope.startswith("run:")', True),
        ("SQL = \"SELECT 'run:' || run.id\"", False),
        ("scopes.run(pk)", False),
    ],
)
def test_what_is_looked_for_is_found(source: str, found: bool):
    assert spells_a_run(ast.parse(source)) is found
