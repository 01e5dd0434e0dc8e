"""The page of the commands: every management command of ours with its arguments."""

from __future__ import annotations

import argparse
from collections import Counter

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from backend.reference import source

OF_DJANGO = {
    *("help", "version", "verbosity", "settings", "pythonpath"),
    *("traceback", "no_color", "force_color", "skip_checks"),
}
"""Options that Django gives to every command."""


def ours() -> dict[str, BaseCommand]:
    """Every command of our packages, by name."""
    known = {name: str(app) for name, app in get_commands().items()}
    chosen = [name for name, app in known.items() if app.partition(".")[0] in source.PACKAGES]
    return {name: load_command_class(known[name], name) for name in sorted(chosen)}


def _command(name: str, parser: argparse.ArgumentParser, help_text: str, shared: set[str]) -> str:
    lines = [f"## {name}", "", _sentence(help_text)]
    lines += _arguments(parser, f"manage.py {name}")
    if parser.epilog and parser.epilog not in shared:
        lines += ["", "```text", parser.epilog.strip(), "```"]
    return "\n".join(lines)


def _arguments(parser: argparse.ArgumentParser, name: str) -> list[str]:
    actions = [one for one in parser._actions if one.dest not in OF_DJANGO and one.help is not argparse.SUPPRESS]
    verbs = [one for one in actions if isinstance(one, argparse._SubParsersAction)]
    plain = [one for one in actions if one not in verbs]
    lines = ["", "```text", " ".join([name, *map(_usage, plain), *("VERB …" for _ in verbs)]), "```"]
    if plain:
        lines += ["", "| argument | meaning |", "|---|---|"]
        lines += [f"| {_names(one)} | {_meaning(one, parser)} |" for one in plain]
    for group in verbs:
        helps = {one.dest: one.help or "" for one in group._choices_actions}
        for verb, inner in group.choices.items():
            lines += ["", f"### {name.removeprefix('manage.py ')} {verb}", "", _sentence(helps.get(verb, ""))]
            lines += _arguments(inner, f"{name} {verb}")
    return lines


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        word = _value(action)
        return {"?": f"[{word}]", "*": f"[{word} …]", "+": f"{word} …"}.get(str(action.nargs), word)
    word = " ".join([action.option_strings[-1], *([_value(action)] if action.nargs != 0 else [])])
    return word if action.required else f"[{word}]"


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_value(action)}`"
    value = f" {_value(action)}" if action.nargs != 0 else ""
    return ", ".join(f"`{one}{value}`" for one in action.option_strings).replace("|", "\\|")


def _meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return source.one_line((action.help or "") % {**vars(action), "prog": parser.prog})


def _sentence(text: str) -> str:
    text = source.one_line(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def page() -> str:
    """``docs/reference/cli.md``. What several commands say below their arguments is left to the page of exit codes."""
    found = ours()
    parsers = {name: command.create_parser("manage.py", name) for name, command in found.items()}
    told = Counter(parser.epilog for parser in parsers.values() if parser.epilog)
    shared = {text for text, commands in told.items() if commands > 1}
    parts = [_command(name, parsers[name], command.help, shared) for name, command in found.items()]
    return _PAGE + "\n\n".join(parts) + "\n"


_PAGE = """\
# Commands

Written by `manage.py write_reference` from the code. Do not edit.

Run them as `.venv/bin/python manage.py COMMAND` in a checkout. A project with `pause_manager` alone has its
commands in its own `manage.py`. `--help` prints the same. A run is named by its id, the first digits of it, or
`latest`. [Exit codes](errors.md#exit-codes) mean one thing in all commands.

"""
