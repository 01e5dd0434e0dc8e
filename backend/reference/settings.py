"""The page of the settings: the options of each app, and the environment variables that ``backend.settings`` reads."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from automation.conf import AutomationSettings
from automation.contrib.credits.conf import CreditsSettings
from backend.reference import source
from pause_manager.capacity.policy_groups import GROUPS, name_within_group
from pause_manager.conf import PauseManagerSettings

READERS = {
    "text": "text",
    "required": "text, required",
    "words": "comma-separated list",
    "choice": "one of",
    "number": "whole number",
    "forgiving_number": "number",
    "switch": "true or false",
    "url": "address",
}


class Undocumented(LookupError):
    """An option or variable has no meaning in the code; the sentence names it."""


@dataclass
class Variable:
    name: str
    type: str
    default: str
    meaning: str


def variables() -> list[Variable]:
    """Every environment variable that ``backend.settings`` reads, with the ``#:`` comment above or beside it."""
    found: dict[str, Variable] = {}
    for module in source.modules():
        if module.path.parent.name != "settings":
            continue
        meanings = _comments(module)
        for call in module.calls():
            if source.name_of(call) not in READERS or not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            name = str(call.args[0].value)
            if not re.fullmatch(r"[A-Z][A-Z0-9_]+", name):
                continue
            one = Variable(name, _type(call), _default(call), meanings.get(call.lineno, ""))
            known = found.setdefault(name, one)
            known.meaning = known.meaning or one.meaning
            known.default = known.default or one.default
    if unsaid := sorted(one.name for one in found.values() if not one.meaning):
        raise Undocumented(
            f"Cannot write the page of settings: no #: comment in backend/settings says what {unsaid} mean."
        )
    return sorted(found.values(), key=lambda one: one.name)


def _comments(module: source.Module) -> dict[int, str]:
    """The ``#:`` comment for each line of code: the block right above it."""
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(module.path.read_text()).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("#:"):
            line = token.start[0]
            comments[line + 1] = f"{comments.pop(line, '')} {token.string[2:].strip()}".strip()
    return comments


def _type(call: ast.Call) -> str:
    name = source.name_of(call)
    if name == "choice":
        return "one of " + ", ".join(f"`{one}`" for one in ast.literal_eval(call.args[1]))
    limits = {word.arg: word.value for word in call.keywords}
    bounds = [
        f"{word} {ast.unparse(limits[key])}"
        for key, word in (("least", "at least"), ("most", "at most"))
        if key in limits
    ]
    return ", ".join([READERS[name], *bounds])


def _default(call: ast.Call) -> str:
    if source.name_of(call) == "choice":
        return f"`{ast.literal_eval(call.args[1])[0]}`"
    if len(call.args) < 2 or not isinstance(call.args[1], ast.Constant):
        return ""
    value = call.args[1].value
    return f"`{value!s}`" if value != "" else ""


def _group(name: str, owner: type) -> str:
    return f'`PAUSE_MANAGER["policy"]["{name}"]`. {owner.__doc__}\n\n{_table(owner, name_within_group)}'


def _table(owner: type, name: Callable[[str], str] = str) -> str:
    docs = source.attribute_docs(owner)
    options = fields(owner)
    if unsaid := [one.name for one in options if one.name not in docs]:
        raise Undocumented(f"Cannot write the page of settings: {owner.__name__} does not say what {unsaid} mean.")
    rows = [f"| `{name(one.name)}` | {_type_of(one)} | {_default_of(one)} | {docs[one.name]} |" for one in options]
    return "\n".join(["| option | type | default | meaning |", "|---|---|---|---|", *rows])


def _type_of(option: Field[Any]) -> str:
    return f"`{option.type}`".replace("|", "or")


def _default_of(option: Field[Any]) -> str:
    value = option.default_factory() if option.default_factory is not MISSING else option.default
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"`{value:_}`"
    return f"`{value!r}`"


def page() -> str:
    """``docs/reference/settings.md``. Raises ``Undocumented`` for what has no meaning in the code."""
    rows = "\n".join(f"| `{one.name}` | {one.type} | {one.default} | {one.meaning} |" for one in variables())
    return _PAGE.format(
        pause_manager=_table(PauseManagerSettings),
        policy="\n\n".join(_group(group, owner) for group, owner in GROUPS.items()),
        automation=_table(AutomationSettings),
        credits=_table(CreditsSettings),
        environment=rows,
    )


_PAGE = """\
# Settings

Written by `manage.py write_reference` from the code. Do not edit.

A project that installs `pause_manager` alone sets `PAUSE_MANAGER` in its Django settings. The Slackwater system
(`manage.py up`, the containers) is configured by [environment variables](#environment).
A system check refuses unknown names, with "did you mean". Names that end in `_seconds`, `_hours`, `_days` or `_bytes`
have that unit; thresholds are free shares from 0 to 1.

## PAUSE_MANAGER

{pause_manager}

### PAUSE_MANAGER["policy"]

The capacity policy, in groups: `PAUSE_MANAGER = {{"policy": {{"thresholds": {{"pause_below": 0.25}}}}}}`.
[Capacity](../operations/capacity.md) explains the rules that use these numbers.

{policy}

## AUTOMATION

{automation}

## CREDITS

[Credits and budgets](../howto/credits.md).

{credits}

## Environment

| variable | type | default | meaning |
|---|---|---|---|
{environment}

Read by others:

| variable | meaning |
|---|---|
| `DJANGO_SETTINGS_MODULE` | `backend.settings.dev` (default; one machine) or `backend.settings.prod` |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` | credentials for `s3://` in `STORAGE_URL`, as boto3 reads them |
"""
