"""The parameters of a pipeline, and who can do the work of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from automation.errors import InvalidParams

CELERY, AGENT = "celery", "agent"
EXECUTORS = (CELERY, AGENT)


@dataclass(frozen=True)
class Param:
    """One parameter of a pipeline. ``type`` is ``int``, ``float``, ``str`` or ``bool``; texts are converted."""

    name: str
    type: type[int] | type[float] | type[str] | type[bool]
    default: Any
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[Any] = ()
    label: str = ""
    """What a form calls it; the name in words if it is left out."""

    def clean(self, value: Any) -> Any:
        """``value`` as the declared type, within the declared bounds, or ``InvalidParams``."""
        converted = self._convert(value)
        if self.choices and converted not in self.choices:
            raise self._refusal("one of " + ", ".join(map(str, self.choices)), value)
        if self.minimum is not None and converted < self.minimum:
            raise self._refusal(f"at least {self.minimum:g}", value)
        if self.maximum is not None and converted > self.maximum:
            raise self._refusal(f"at most {self.maximum:g}", value)
        return converted

    def _convert(self, value: Any) -> Any:
        if self.type is bool:
            if isinstance(value, bool):
                return value
            known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            if str(value).lower() in known:
                return known[str(value).lower()]
            raise self._refusal("true or false", value)
        if self.type is str:
            if isinstance(value, str):
                return value
            raise self._refusal("a text", value)
        name = "a whole number" if self.type is int else "a number"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._refusal(name, value)
        try:
            converted: int | float = int(value) if self.type is int else float(value)
        except (ValueError, OverflowError):
            raise self._refusal(name, value) from None
        if not isfinite(converted) or (self.type is int and isinstance(value, float) and converted != value):
            raise self._refusal(name, value)
        return converted

    def _refusal(self, rule: str, value: Any) -> InvalidParams:
        return InvalidParams(f"Cannot use parameter {self.name!r}: expected {rule}, got: {value!r}.")
