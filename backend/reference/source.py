"""The source text of our own packages: syntax trees, the docstrings of attributes, the strings an expression can be."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pause_manager", "automation", "backend")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Undetermined(Exception):
    """The strings that an expression can be is not known from the source."""


@dataclass
class Module:
    """One file with its tree, and for each node the function around it."""

    path: Path
    tree: ast.Module
    functions: dict[ast.AST, Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._enter(self.tree, None)

    def _enter(self, node: ast.AST, function: Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            if function is not None:
                self.functions[child] = function
            inner = child if isinstance(child, Function) else function
            self._enter(child, inner)

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """What the module's names are bound to at its top level."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                found[node.target.id] = node.value
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = node.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=False)
                    found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
        return found

    def calls(self) -> Iterator[ast.Call]:
        """Every call in the file, in no particular order."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def where(self, node: ast.expr) -> str:
        """File and line, for a message."""
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


@lru_cache
def modules() -> tuple[Module, ...]:
    """Every file of our packages, without migrations."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return tuple(Module(path, ast.parse(path.read_text())) for path in paths if "migrations" not in path.parts)


def name_of(call: ast.Call) -> str:
    """The last name of what is called: ``record`` of ``audit.record(...)``."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def attribute_docs(owner: type) -> dict[str, str]:
    """The docstring below each attribute of a class, as one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(node, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in itertools.pairwise(node.body):
        target: ast.expr | None = None
        if isinstance(statement, ast.AnnAssign):
            target = statement.target
        elif isinstance(statement, ast.Assign):
            target = statement.targets[0]
        if isinstance(target, ast.Name) and isinstance(following, ast.Expr):
            text = following.value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                docs[target.id] = one_line(text.value)
    return docs


def one_line(text: str) -> str:
    """``text`` without line breaks, in the Markdown of a table cell."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", " ".join(text.split())).replace("``", "`").replace("|", "\\|")


def strings(expression: ast.expr, module: Module) -> set[str]:
    """Every string that ``expression`` can be. Raises ``Undetermined`` if the source does not tell.

    A parameter is followed to the calls of its function, a name to its assignments.
    """
    return _Reader().read(expression, module)


class _Reader:
    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def read(self, expression: ast.expr, module: Module) -> set[str]:
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return {expression.value}
        if isinstance(expression, ast.IfExp):
            return self.read(expression.body, module) | self.read(expression.orelse, module)
        if isinstance(expression, ast.JoinedStr):
            parts = [
                self.read(part.value if isinstance(part, ast.FormattedValue) else part, module)
                for part in expression.values
            ]
            return {"".join(combination) for combination in itertools.product(*parts)}
        if isinstance(expression, ast.Name):
            return self._named(expression, module)
        if isinstance(expression, ast.Attribute):
            owner = self._class_of(expression.value, module)
            if owner is not None:
                return self._fields(owner, expression.attr)
            return self._constant(expression.attr, expression, module)
        if isinstance(expression, ast.Subscript) and isinstance(expression.value, ast.Name):
            table = module.constants.get(expression.value.id)
            if isinstance(table, ast.Dict):
                return set().union(*(self.read(value, module) for value in table.values))
        raise Undetermined(f"{module.where(expression)}: {ast.unparse(expression)}")

    def _named(self, name: ast.Name, module: Module) -> set[str]:
        function = module.functions.get(name)
        if function is not None:
            parameters = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
            if name.id in parameters or name.id in [one.arg for one in function.args.kwonlyargs]:
                return self._arguments(name.id, parameters, function, module)
            if found := self._assigned(name.id, function, module):
                return found
            if found := self._looped(name.id, function, module):
                return found
        return self._constant(name.id, name, module)

    def _arguments(self, name: str, parameters: list[str], function: Function, module: Module) -> set[str]:
        """What the calls of ``function`` give for its parameter ``name``."""
        key = (str(module.path), f"{function.name}.{name}")
        if key in self._seen:
            return set()
        self._seen.add(key)
        if parameters[:1] in (["self"], ["cls"]):
            parameters = parameters[1:]
        place = parameters.index(name) if name in parameters else None
        found: set[str] = set()
        for one in [module] if function.name.startswith("_") else modules():
            for call in one.calls():
                if name_of(call) != function.name:
                    continue
                given = [word.value for word in call.keywords if word.arg == name]
                if place is not None and place < len(call.args):
                    given.append(call.args[place])
                for value in given:
                    found |= self.read(value, one)
        return found

    def _assigned(self, name: str, function: Function, module: Module) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(function):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    found |= self.read(node.value, module)
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Attribute):
                    names = [one.id if isinstance(one, ast.Name) else "" for one in target.elts]
                    if name in names:
                        found |= self._unpacked(node.value.attr, names.index(name), module)
        return found

    def _unpacked(self, attribute: str, place: int, module: Module) -> set[str]:
        """What stands at ``place`` of the tuples that are assigned to ``self.attribute``."""
        found: set[str] = set()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and target.attr == attribute:
                        found |= self.read(node.value.elts[place], module)
        return found

    def _looped(self, name: str, function: Function, module: Module) -> set[str]:
        """The first elements of the literal pairs over which a comprehension or loop in ``function`` runs ``name``."""
        found: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.comprehension | ast.For):
                targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
                names = [one.id if isinstance(one, ast.Name) else "" for one in targets]
                if name in names and isinstance(node.iter, ast.Tuple | ast.List):
                    for row in node.iter.elts:
                        cell = row.elts[names.index(name)] if isinstance(row, ast.Tuple | ast.List) else row
                        found |= self.read(cell, module)
        return found

    def _constant(self, name: str, expression: ast.expr, module: Module) -> set[str]:
        for one in (module, *modules()):
            value = one.constants.get(name)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return {value.value}
        raise Undetermined(f"{module.where(expression)}: {ast.unparse(expression)}")

    @staticmethod
    def _class_of(value: ast.expr, module: Module) -> ast.ClassDef | None:
        """The class of ours by which the parameter ``value`` is annotated."""
        function = module.functions.get(value)
        if function is None or not isinstance(value, ast.Name):
            return None
        for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
            if one.arg == value.id and isinstance(one.annotation, ast.Name):
                return _classes().get(one.annotation.id)
        return None

    def _fields(self, owner: ast.ClassDef, attribute: str) -> set[str]:
        """What the calls that make an ``owner``, a dataclass, give for its field ``attribute``."""
        names = [
            one.target.id for one in owner.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        ]
        place = names.index(attribute)
        found: set[str] = set()
        for module in modules():
            for call in module.calls():
                if name_of(call) == owner.name:
                    given = [word.value for word in call.keywords if word.arg == attribute] + call.args[
                        place : place + 1
                    ]
                    for value in given:
                        found |= self.read(value, module)
        return found


@lru_cache
def _classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for module in modules() for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)}
