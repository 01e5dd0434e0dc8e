"""The page of the errors: exit codes of commands, error codes of the API, reasons why work waits."""

from __future__ import annotations

import ast

from backend.reference import source
from pause_manager.management.shell import Exit
from pause_manager.reasons import ReasonCode

FRAMEWORK = {
    "authentication_failed": "The token or session is not valid.",
    "database_unavailable": "The database cannot be reached.",
    "internal_error": "Something unexpected. `request_id` leads to the server's log.",
    "invalid": "The request breaks its schema; `fields` names what is wrong.",
    "method_not_allowed": "The address exists, but not with this method.",
    "not_authenticated": "Sign in or send a token.",
    "parse_error": "The body cannot be read.",
    "permission_denied": "The caller lacks the permission.",
    "throttled": "Too many requests, or too many wrong passwords; `Retry-After` says when to try again.",
}
"""Codes that have no class of ours: of Django REST framework, and of the outermost handler."""


def codes() -> dict[str, list[str]]:
    """The code of every error class of ours, with the first sentence of each class's docstring."""
    found: dict[str, list[str]] = {}
    for module in source.modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef) or not (code := _code(node)):
                continue
            sentence = source.one_line((ast.get_docstring(node) or node.name).split("\n\n")[0])
            meanings = found.setdefault(code, [])
            if sentence not in meanings:
                meanings.append(sentence)
    return dict(sorted(found.items()))


def _code(node: ast.ClassDef) -> str:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = {target.id for target in statement.targets if isinstance(target, ast.Name)}
            if names & {"code", "default_code"} and isinstance(statement.value.value, str):
                return statement.value.value
    return ""


def page() -> str:
    """``docs/reference/errors.md``."""
    docs = source.attribute_docs(Exit)
    known = codes() | {code: [meaning] for code, meaning in FRAMEWORK.items()}
    return _PAGE.format(
        exits="\n".join(f"| {code.value} | {docs[code.name]} |" for code in Exit),
        codes="\n".join(f"| `{code}` | {' '.join(known[code])} |" for code in sorted(known)),
        reasons="\n".join(f"| `{code}` | {code.meaning} |" for code in ReasonCode),
    )


_PAGE = """\
# Exit codes, error codes, reasons

Written by `manage.py write_reference` from the code. Do not edit.

## Exit codes

They mean the same in all [commands](cli.md).

| code | meaning |
|---|---|
{exits}

## Error codes

The API responds to a refused request with `{{"code": "…", "message": "…"}}`: a code for machines and a sentence for
people. [openapi.yaml](openapi.yaml) has the status of each endpoint. The codes of the fleet switch are in
[its own page](../operations/fleet.md#over-http).

| code | meaning |
|---|---|
{codes}

## Reasons

Why a run does not proceed. `explain_run`, the run's page, `…/runs/RUN/explain/` and MCP list all that apply, in this
order.

| code | meaning |
|---|---|
{reasons}
"""
