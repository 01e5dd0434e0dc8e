"""Who may see what items contain: their payloads, the texts of their errors, and the files that stages wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from automation.gate import Reason, troubles
from automation.reports import up_next
from pause_manager.models import ControlEvent

VIEW = "automation.view_payloads"

_CLASS = re.compile(r"(?:\w+\.)*(?P<name>[A-Z]\w*)(?=:|\Z)")


def may_view(user: Any) -> bool:
    """Whether ``user`` may see them."""
    return bool(user.has_perm(VIEW))


def title_of(payload: dict[str, Any], key: str, *, is_shown: bool) -> str:
    """What a person calls an item; its key for those who may not see what it contains."""
    return up_next.title_of(payload, key) if is_shown else key


def error_class(error: str) -> str:
    """The class of an error, ``Class: text`` or a traceback: the text, which may have lines, may quote the item.

    What an agent says need not begin with a class: one word that could be any word is none.
    """
    lines = error.strip().splitlines()
    if lines and lines[0].startswith(_TRACEBACK):
        lines = [line for line in lines[1:] if line[:1].strip()]
    found = _CLASS.match(lines[0]) if lines else None
    return found[0] if found and sum(map(str.isupper, found["name"])) > 1 else "error"


def failure(reason: str, *, is_shown: bool) -> str:
    """Why a run failed."""
    return reason if is_shown else _of_stage(reason)


def without_texts(reasons: list[Reason]) -> list[Reason]:
    """``reasons`` without what stages said in their own words."""
    return [
        replace(reason, sentence=f"{reason.sentence.partition(': ')[0]}.") if reason.code in _QUOTING else reason
        for reason in reasons
    ]


_QUOTING = (troubles.FAILING, troubles.WAITS)
_TRACEBACK = "Traceback (most recent call last):"


def _of_stage(reason: str) -> str:
    """``reason`` as far as the system has written it: ``stage: what``, and the class of the error if one follows."""
    stage, what, told = [*reason.split(": ", 2), "", ""][:3]
    if not told:
        return reason
    kind = error_class(told)
    return f"{stage}: {what}." if kind == "error" else f"{stage}: {what}: {kind}."


def _before(separator: str, parts: int) -> Any:
    return lambda reason: f"{separator.join(reason.split(separator)[:parts])}."


_EVENTS: dict[str, Any] = {
    "fail": _of_stage,
    "loop_failed": _of_stage,
    "item_waits": _before(": ", 2),
    "item_given_up": _before(": ", 2),
    "job_failed": _before(": ", 1),
    "worker_lost": lambda reason: re.sub(r" \((\w+): .*\)(?=; )", r" (\1)", reason, flags=re.DOTALL),
    "out_of_memory": _of_stage,
}
"""What is left of the reasons of events in which stages speak, by action."""


def reason_for(user: Any, event: ControlEvent) -> str:
    """The reason of ``event`` as far as ``user`` may see it."""
    told = _EVENTS.get(event.action)
    return event.reason if told is None or may_view(user) else told(event.reason)
