"""Imports stand at the top of a module, where readers and `lint-imports` see them, and run in no circle."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests.architecture.test_threads import APPS, sources

BEFORE_MODELS = {
    "pause_manager.pausable.running_tasks": "needs models; a Celery app imports `pausable` before they are ready",
}
"""Modules that may be imported inside a function, and why; everything else says what it needs at the top."""

HEAVY = {
    "automation.contrib.content.clustering": "scikit-learn: a second and 130 MB",
    "automation.contrib.content.providers.drawing": "Pillow",
    "automation.contrib.content.providers.endpoint": "httpx: 20 MB",
    "automation.contrib.content.providers.openai": "httpx and Pillow",
    "automation.inputs.excel": "openpyxl: 35 MB",
    "charset_normalizer": "only for inputs that are not UTF-8",
    "markdown_it": "only where an article becomes a page",
    "statsd": "of an extra that few install",
}
"""The same for what only few processes load; `integration/worker/test_lean_workers.py` sees that they do."""

DJANGO_CALLS_IT = "ready"
"""Of an ``AppConfig``: when it is called models can be imported, and not before."""


def imports_inside_functions(tree: ast.Module) -> Iterator[str]:
    """The modules that functions import, without those of an ``AppConfig.ready``."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name == DJANGO_CALLS_IT:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = node.module or "."
                names = [f"{module}.{alias.name}" for alias in node.names]
                yield from (name if name in BEFORE_MODELS or name in HEAVY else module for name in names)


def late_imports() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in sources():
        for module in imports_inside_functions(tree):
            found[module].add(path)
    return found


def circle_in(edges: Mapping[str, Set[str]]) -> list[str]:
    """One circle, its first member last again; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*APPS, exclude_type_checking_imports=True, cache_dir=None)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def rooms(imports: Mapping[str, Set[str]]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = defaultdict(set)
    for module, imported in imports.items():
        edges[room_of(module)] |= {room_of(one) for one in imported} - {room_of(module)}
    return edges


def test_a_function_imports_nothing_without_a_reason():
    found = late_imports()

    assert {module: found[module] for module in sorted(set(found) - set(BEFORE_MODELS) - set(HEAVY))} == {}


def test_no_reason_outlives_its_import():
    assert set(BEFORE_MODELS) | set(HEAVY) == set(late_imports())
    assert len(BEFORE_MODELS) <= 2, "break the circle instead"


def test_neither_modules_nor_rooms_import_each_other_in_a_circle():
    known = graph()
    imports = {module: known.find_modules_directly_imported_by(module) for module in known.modules}
    assert "pause_manager.worker.decisions" in imports

    assert circle_in(imports) == []
    assert circle_in(rooms(imports)) == []


def test_a_circle_is_found():
    inside = {"app.a.x": {"app.a.y"}, "app.a.y": {"app.b.z"}, "app.b.z": {"app.a.v"}, "app.a.v": set()}

    assert circle_in(inside) == []
    assert sorted(set(circle_in(rooms(inside)))) == ["app.a", "app.b"]
    assert len(circle_in({"a": {"b"}, "b": {"a"}})) == 3


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("from a import b\nimport c", []),
        ("def f():\n    from a.b import c", ["a.b"]),
        ("class A:\n    async def f(self):\n        if x:\n            import a.b, c", ["a.b", "c"]),
        ("def f():\n    from pause_manager.pausable import running_tasks", ["pause_manager.pausable.running_tasks"]),
        ("class Config:\n    def ready(self):\n        from a import b", []),
        ("try:\n    import a\nexcept ImportError:\n    a = None", []),
    ],
)
def test_an_import_inside_a_function_is_found(source: str, modules: list[str]):
    assert list(imports_inside_functions(ast.parse(source))) == modules
