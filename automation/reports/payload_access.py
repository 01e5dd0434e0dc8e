"""Access to contents of items: payloads, texts of errors, and files that stages wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from automation.gate import Reason, problems
from automation.models import RunQuestion
from automation.reports import item_labels
from pause_manager.models import ControlEvent

VIEW = "automation.view_payloads"

_CLASS = re.compile(r"(?:\w+\.)*(?P<name>[A-Z]\w*)(?=:|\Z)")


def may_view(user: Any) -> bool:
    """Return whether ``user`` may see contents of items."""
    return bool(user.has_perm(VIEW))


def label_of(pipeline: str, stage: str, payload: dict[str, Any], key: str, *, is_shown: bool) -> str:
    """Return the label of an item; its key for users who may not see its content."""
    return item_labels.label_of(pipeline, stage, payload, key) if is_shown else key


def error_class(error: str) -> str:
    """The class of an error, ``Class: text`` or a traceback; its text may quote the item.

    An agent's error need not begin with a class: a single ordinary word does not count as one.
    """
    lines = error.strip().splitlines()
    if lines and lines[0].startswith(_TRACEBACK):
        lines = [line for line in lines[1:] if line[:1].strip()]
    found = _CLASS.match(lines[0]) if lines else None
    return found[0] if found and sum(map(str.isupper, found["name"])) > 1 else "error"


def failure(reason: str, *, is_shown: bool) -> str:
    """The reason why a run failed, as far as it is shown."""
    return reason if is_shown else _of_stage(reason)


def question(asked: RunQuestion, *, is_shown: bool) -> str:
    """What a stage asks; only what it is about, where its own words are not shown."""
    if is_shown or asked.kind != RunQuestion.Kind.QUESTION:
        return asked.question
    return f"A question about {asked.item_key}. To read it takes the permission {VIEW}."


def without_texts(reasons: list[Reason]) -> list[Reason]:
    """``reasons`` without texts of stages."""
    return [
        replace(reason, sentence=f"{reason.sentence.partition(': ')[0]}.") if reason.code in _QUOTING else reason
        for reason in reasons
    ]


_QUOTING = (problems.FAILING, problems.WAITS)
_TRACEBACK = "Traceback (most recent call last):"


def _of_stage(reason: str) -> str:
    """The part of ``reason`` that the system wrote: ``stage: what``, and the class of the error if one follows."""
    stage, what, told = [*reason.split(": ", 2), "", ""][:3]
    if not told:
        return reason
    kind = error_class(told)
    return f"{stage}: {what}." if kind == "error" else f"{stage}: {what}: {kind}."


def _first_parts(separator: str, parts: int) -> Any:
    return lambda reason: f"{separator.join(reason.split(separator)[:parts])}."


def no_run(reason: str) -> str:
    """What everybody may read of why a schedule made no run."""
    kind = error_class(reason)
    return "No run could be created." if kind == "error" else f"No run could be created: {kind}."


_EVENTS: dict[str, Any] = {
    "occurrence_failed": no_run,
    "fail": _of_stage,
    "loop_failed": _of_stage,
    "item_waits": _first_parts(": ", 2),
    "item_given_up": _first_parts(": ", 2),
    "job_failed": _first_parts(": ", 1),
    "worker_lost": lambda reason: re.sub(r" \((\w+): .*\)(?=; )", r" (\1)", reason, flags=re.DOTALL),
    "out_of_memory": _of_stage,
}
"""By action, the part of a reason that everybody may read, where stages add texts of their own."""


def reason_for(user: Any, event: ControlEvent) -> str:
    """The reason of ``event``, as far as ``user`` may see it."""
    told = _EVENTS.get(event.action)
    return event.reason if told is None or may_view(user) else told(event.reason)
