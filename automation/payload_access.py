"""Who may see what items contain: their payloads, the texts of their errors, and the files that stages wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from automation import troubles, up_next
from automation.gate import Reason

VIEW = "automation.view_payloads"

_CLASS = re.compile(r"[A-Za-z_][\w.]*")


def may_view(user: Any) -> bool:
    """Whether ``user`` may see them."""
    return bool(user.has_perm(VIEW))


def title_of(payload: dict[str, Any], key: str, *, is_shown: bool) -> str:
    """What a person calls an item; its key for those who may not see what it contains."""
    return up_next.title_of(payload, key) if is_shown else key


def error_class(error: str) -> str:
    """The class of an error as its last line names it: the text behind it may quote the item."""
    lines = [line for line in error.strip().splitlines() if line[:1].strip()]
    found = _CLASS.match(lines[-1]) if lines else None
    name = found[0] if found else ""
    is_class = name and (lines[-1] == name or lines[-1].startswith(f"{name}:"))
    return name if is_class else "error"


def without_texts(reasons: list[Reason]) -> list[Reason]:
    """``reasons`` without what stages said in their own words."""
    return [
        replace(reason, sentence=f"{reason.sentence.partition(': ')[0]}.") if reason.code in _QUOTING else reason
        for reason in reasons
    ]


_QUOTING = (troubles.FAILING, troubles.WAITS)
