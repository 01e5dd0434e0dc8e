"""What the documents show can be typed, their links lead somewhere, and what looks like code is code.

That examples do what they say is tried where they are walked: the tutorial, the pipeline, the runbook, the drop-in.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from django.apps import apps
from django.core.management import CommandError, get_commands, load_command_class

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
PACKAGES = ("pause_manager", "automation", "backend")
OPERATORS = {"|", "&&", "||", ";", "&", ">", ">>", "<", ")"}
OF_DJANGO = {"migrate", "check", "createsuperuser", "collectstatic", "dumpdata", "shell", "changepassword"}

Block = tuple[str, int, str]
"""Document, line and text."""


def blocks(language: str) -> Iterator[Block]:
    for path in DOCUMENTS:
        for found in re.finditer(rf"^( *)```{language}\n(.*?)^ *```$", path.read_text(), re.S | re.M):
            line = path.read_text()[: found.start()].count("\n") + 2
            text = "\n".join(one.removeprefix(found[1]) for one in found[2].splitlines())
            yield str(path.relative_to(ROOT)), line, text


def links() -> Iterator[tuple[str, Path, str]]:
    """(where, file, anchor) of each link from a document to a file of the repository."""
    for path in DOCUMENTS:
        text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.S | re.M)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            if not re.match(r"\w+:", target):
                file, _, anchor = target.partition("#")
                yield f"{path.relative_to(ROOT)}: {target}", path.parent / file if file else path, anchor


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[tuple[str, list[str]]]:
    """(where, words) of each command line, up to the first operator of the shell."""
    for name, line, text in blocks("sh"):
        for offset, typed in enumerate(text.replace("\\\n", "  ").splitlines()):
            lexer = shlex.shlex(typed, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, "&&"]:
                if word not in OPERATORS:
                    words.append(word)
                    continue
                while words and (words[0] == "(" or re.match(r"[A-Z_]+=", words[0])):
                    words.pop(0)
                if words:
                    yield f"{name}:{line + offset}", words
                words = []


MANAGED = [
    (where, words[at + 1 :])
    for where, words in commands()
    for at, word in enumerate(words)
    if word.endswith("manage.py") and words[at + 1 :] != ["$@"]
]
MADE = [(where, words[1:]) for where, words in commands() if words[0] == "make"]


def test_there_is_something_to_look_at():
    assert len(MANAGED) > 30
    assert len(MADE) > 3


@pytest.mark.parametrize(("where", "words"), MANAGED, ids=[f"{where} {words[:1]}" for where, words in MANAGED])
def test_each_management_command_takes_what_is_shown(where: str, words: list[str]):
    name, *given = words
    known = get_commands()
    assert name in known or where.startswith("examples/"), f"{where}: there is no command {name}"
    if name in OF_DJANGO or name not in known:
        return
    given = [re.sub(r"^…$", "x", re.sub(r"\$\(?\w+\)?", "1234", word)) for word in given]
    command = load_command_class(known[name], name)
    try:
        command.create_parser("manage.py", name).parse_args(given)
    except CommandError as error:
        pytest.fail(f"{where}: manage.py {shlex.join(words)}: {error}")


@pytest.mark.parametrize(("where", "words"), MADE, ids=[f"{where} {words[:1]}" for where, words in MADE])
def test_each_target_of_make_is_there(where: str, words: list[str]):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))

    assert {word for word in words if "=" not in word and not word.startswith("-")} <= targets, where


@pytest.mark.parametrize(("where", "file", "anchor"), [pytest.param(*one, id=one[0]) for one in links()])
def test_each_link_leads_somewhere(where: str, file: Path, anchor: str):
    assert file.exists(), where
    assert not anchor or anchor in anchors(file), where


def test_each_page_is_in_the_index():
    listed = {file.resolve() for where, file, _ in links() if where.startswith("docs/index.md")}
    pages = {path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "adr" and path.name != "index.md"}

    assert pages - listed == set()


def named(pattern: str) -> list[tuple[str, str]]:
    """(document, name) of what stands in backticks and matches; a record of a decision names what was there then."""
    return sorted(
        {
            (str(path.relative_to(ROOT)), name)
            for path in DOCUMENTS
            if path.parent.name != "adr" and path.name != "CHANGELOG.md"
            for name in re.findall(rf"`({pattern})(?:\(\))?`", path.read_text())
        }
    )


@cache
def texts_of_code() -> set[str]:
    """Every text in the code: names of loggers, of Celery tasks."""
    return {
        node.value
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@cache
def permissions() -> set[str]:
    return {
        f"{model._meta.app_label}.{codename}"
        for model in apps.get_models()
        for codename in [
            *(f"{verb}_{model._meta.model_name}" for verb in model._meta.default_permissions),
            *(codename for codename, _ in model._meta.permissions),
        ]
    }


def is_there(name: str) -> bool:
    try:
        if find_spec(name) is None:
            pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return name in permissions() or name in texts_of_code()
    return True


@pytest.mark.parametrize(("where", "name"), named(rf"(?:{'|'.join(PACKAGES)})\.[\w.]*\w"))
def test_each_name_of_our_code_is_there(where: str, name: str):
    assert is_there(name)


@pytest.mark.parametrize(("where", "name"), named(rf"(?:{'|'.join(PACKAGES)}|tests|deploy|examples|docs)/[\w./-]+"))
def test_each_file_of_the_repository_is_there(where: str, name: str):
    assert (ROOT / name).exists()


RULES = (ROOT / "docs" / "operations" / "capacity.md").read_text().split("\n## The rules\n")[1].split("\n\n")[0]


@pytest.mark.parametrize(
    "name",
    [
        name
        for row in RULES.strip().splitlines()
        for name in re.findall(r"`([\w.]+)`", row.rstrip(" |").rpartition("|")[2])
    ],
)
def test_each_rule_of_capacity_names_code_that_is_there(name: str):
    assert name.rpartition(".")[2] in defined_names()


@cache
def defined_names() -> set[str]:
    """What the pause manager and the engine define: functions, classes, and names with a value or a type."""
    found = set()
    for path in (path for package in PACKAGES[:2] for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    found.add(name)
                case ast.Assign(targets=targets):
                    found |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return found


def test_a_name_that_is_not_there_is_told():
    assert "steady_foreign_milli" not in defined_names()
    assert not is_there("pause_manager.holds.nothing_of_the_kind")
    assert is_there("automation.view_payloads")


OF_FRAMEWORKS = {"admin", "api", "management", "migrations", "models", "static", "templates", "templatetags"}


@pytest.mark.parametrize("package", ["pause_manager", "automation", "backend"])
def test_the_architecture_page_names_every_room(package: str):
    drawn = (ROOT / "docs" / "architecture.md").read_text().split(f"\n{package}/ ")[1].split("\n\n")[0].split("```")[0]
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}

    assert rooms - OF_FRAMEWORKS == set(re.findall(r"(\w+)/(?=\s|$)", drawn)) - {"management"}


@pytest.mark.parametrize("block", [pytest.param(one, id=f"{one[0]}:{one[1]}") for one in blocks("python")])
def test_what_looks_like_python_is(block: Block):
    ast.parse(block[2])


@pytest.mark.parametrize("block", [pytest.param(one, id=f"{one[0]}:{one[1]}") for one in blocks("json")])
def test_what_looks_like_json_is(block: Block):
    json.loads(block[2])


@pytest.mark.parametrize("block", [pytest.param(one, id=f"{one[0]}:{one[1]}") for one in blocks("ya?ml")])
def test_what_looks_like_yaml_is(block: Block):
    assert yaml.safe_load(block[2])
