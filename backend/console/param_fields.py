"""The parameters of a pipeline as fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automation.pipeline.params import Param

PREFIX = "param-"
WORDS = {"api": "API", "url": "URL", "mib": "MiB"}
"""Words of parameter names that are not written in lower case."""


@dataclass(frozen=True)
class ParamField:
    """One parameter as a field of the form."""

    name: str
    label: str
    help: str
    kind: str
    step: str
    minimum: str
    maximum: str
    choices: list[str]
    value: str
    is_switch: bool

    @classmethod
    def of(cls, param: Param, given: Mapping[str, str], kept: Mapping[str, Any]) -> ParamField:
        """The field of ``param`` with what was ``given`` in the form, else with what is ``kept``, else the default."""
        choices = [str(choice) for choice in param.choices] or (["true", "false"] if param.type is bool else [])
        value = given.get(f"{PREFIX}{param.name}", _plain(kept.get(param.name, param.default)))
        return cls(
            name=param.name,
            label=param.label or _label(param.name),
            help=param.help,
            kind="number" if param.type in (int, float) else "text",
            step={int: "1", float: "any"}.get(param.type, ""),
            minimum="" if param.minimum is None else f"{param.minimum:g}",
            maximum="" if param.maximum is None else f"{param.maximum:.0f}",
            choices=choices,
            value=value,
            is_switch=param.type is bool,
        )


def given_params(given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that a form has sent, as texts by name."""
    return {name.removeprefix(PREFIX): value for name, value in given.items() if name.startswith(PREFIX)}


def _label(name: str) -> str:
    first, *rest = [WORDS.get(word, word) for word in name.split("_")]
    return " ".join([first[:1].upper() + first[1:], *rest])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
